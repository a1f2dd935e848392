/* SPDX-License-Identifier: MIT */
/* lowered_limit.c - a descriptor that was opened before the limit was lowered below it can still be
 * used with select and poll. */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>

#include "background_task.h"
#include "blocking_task.h"

enum { HIGH = 900 };

static int ends[2];

static long by_select(blocking_t *w)
{
    fd_set readable;
    (void)w;
    FD_ZERO(&readable);
    FD_SET(HIGH, &readable);
    long result = select(HIGH + 1, &readable, NULL, NULL, NULL);
    return FD_ISSET(HIGH, &readable) ? result : -2;
}

static long by_pselect(blocking_t *w)
{
    fd_set writable, readable;
    struct timespec limit = { 100, 0 };
    (void)w;
    FD_ZERO(&writable);
    FD_ZERO(&readable);
    FD_SET(HIGH, &readable);
    return pselect(FD_SETSIZE, &readable, &writable, NULL, &limit, NULL);
}

static void wait_by(long (*call)(blocking_t *), const char *what)
{
    blocking_t w = { .call = call };
    char byte;
    blocking_start(&w);
    blocking_await(&w);
    if (write(ends[1], "x", 1) != 1)
        die("write");
    blocking_show(&w, what);
    if (read(ends[0], &byte, 1) != 1)
        die("read");
}

static void probe(void)
{
    struct rlimit limit;
    background_begin();
    if (pipe2(ends, O_CLOEXEC) || getrlimit(RLIMIT_NOFILE, &limit))
        die("pipe2");
    limit.rlim_cur = HIGH + 100;
    if (setrlimit(RLIMIT_NOFILE, &limit) || dup3(ends[0], HIGH, O_CLOEXEC) != HIGH)
        die("dup3");
    limit.rlim_cur = 64;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        die("setrlimit");
    wait_by(by_select, "select");
    wait_by(by_pselect, "pselect");
    close(HIGH);
    background_end();
}
