/* SPDX-License-Identifier: MIT */
/* close_after_wait.c - a wait on a socket that ended without an event keeps no reference to it:
 * once the socket is closed, its peer sees the end. */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/select.h>
#include <sys/time.h>

#include "background_task.h"
#include "blocking_task.h"

static int ends[2];

static void timed_receive(void)
{
    struct timeval limit = { 0, 2000 };
    char byte;
    if (setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit))
        die("setsockopt");
    SHOW(recv(ends[0], &byte, 1, 0));
    SHOW(read(ends[0], &byte, 1));
}

static void timed_send(void)
{
    struct timeval limit = { 0, 2000 };
    static char much[1 << 16];
    if (setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit))
        die("setsockopt");
    while (send(ends[0], much, sizeof much, 0) > 0) {}
    printf("send: %s\n", strerror(errno));
}

static void timed_poll(void)
{
    struct pollfd file = { ends[0], POLLIN, 0 };
    SHOW(poll(&file, 1, 2));
}

static void timed_select(void)
{
    struct timeval limit = { 0, 2000 };
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
    SHOW(select(ends[0] + 1, &readable, NULL, NULL, &limit));
}

static long receive_one(blocking_t *w)
{
    char byte;
    (void)w;
    return recv(ends[0], &byte, 1, 0);
}

static void cancelled_receive(void)
{
    blocking_t w = { .call = receive_one };
    blocking_start(&w);
    blocking_await(&w);
    if (task_options.threads)
        check(pthread_cancel(w.task.thread), "pthread_cancel");
    else
        check(fiber_cancel(w.task.fiber), "fiber_cancel");
    task_join(w.task);
}

static void (*const waits[])(void) = { timed_receive, timed_send, timed_poll, timed_select,
                                       cancelled_receive };

static void probe(void)
{
    background_begin();
    for (int kind = UNIX_STREAM; kind <= TCP; kind += TCP - UNIX_STREAM)
        for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
            if (kind == TCP && waits[i] == timed_send)
                continue; /* the end follows the data, for which there is no space */
            make_pair((enum kind)kind, ends);
            waits[i]();
            if (close(ends[0]))
                die("close");
            struct pollfd peer = { ends[1], POLLRDHUP, 0 };
            printf("%s %zu: the peer sees %s\n", kind_names[kind], i,
                   poll(&peer, 1, 10000) == 1 ? "the end" : "nothing for ten seconds");
            close(ends[1]);
        }
    background_end();
}
