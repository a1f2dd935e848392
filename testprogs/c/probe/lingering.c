/* SPDX-License-Identifier: MIT */
/* lingering.c - to close a socket with SO_LINGER waits until the peer has taken all data: which another task does. */
#define _GNU_SOURCE
#include "company.h"
#include "waiter.h"

static int ends[2], null;
static volatile int reading;

static long by_close(waiter_t *w) { long result = close(ends[0]); waiter_note(w, "after reading began: %d\n", reading); return result; }
static long by_dup2(waiter_t *w)
{
    long result = dup2(null, ends[0]) == ends[0];
    waiter_note(w, "after reading began: %d\n", reading);
    close(ends[0]);
    return result;
}
static long by_dup3(waiter_t *w)
{
    long result = dup3(null, ends[0], O_CLOEXEC) == ends[0];
    waiter_note(w, "after reading began: %d\n", reading);
    close(ends[0]);
    return result;
}

static void lingers(long (*call)(waiter_t *), const char *what)
{
    static char much[1 << 16];
    waiter_t w = { .call = call };
    struct linger linger = { 1, 10 };
    make_pair(TCP, ends);
    while (send(ends[0], much, sizeof much, MSG_DONTWAIT) > 0) {}
    if (setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger))
        die("setsockopt");
    reading = 0;
    waiter_start(&w);
    waiter_await(&w);
    reading = 1;
    while (read(ends[1], much, sizeof much) > 0) {}
    waiter_show(&w, what);
    close(ends[1]);
}

static void probe(void)
{
    company_begin();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    lingers(by_close, "close");
    lingers(by_dup2, "dup2");
    lingers(by_dup3, "dup3");
    close(null);
    company_end();
}
