/* SPDX-License-Identifier: MIT */
/* spurious_wakeups.c - poll and select never drop a descriptor from a long wait, however many
 * spurious wake-ups it caused. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <linux/net_tstamp.h>
#include <poll.h>
#include <sys/select.h>

enum { TOGGLES = 4000 };

static int watched[2], other[2], sockets[2];
static volatile int over;

/* A plain thread takes each byte again at once, so the poll below has repeated spurious wake-ups.
 */
static void *toggle(void *unused)
{
    (void)unused;
    char byte = 'x';
    for (int i = 0; i < TOGGLES; i++)
        if (write(watched[1], &byte, 1) != 1 ||
            (read(watched[0], &byte, 1) != 1 && errno != EAGAIN))
            die("toggle");
    over = 1;
    if (write(watched[1], &byte, 1) != 1)
        die("the last byte");
    return NULL;
}

static long poll_to_the_end(blocking_t *w)
{
    struct pollfd files[2] = { { watched[0], POLLIN, 0 }, { other[0], POLLIN, 0 } };
    (void)w;
    for (;;) {
        int ready = poll(files, 2, -1);
        if (ready != 1 || over)
            return ready;
    }
}

static long select_to_the_end(blocking_t *w)
{
    (void)w;
    for (;;) {
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(watched[0], &readable);
        FD_SET(other[0], &readable);
        int ready = select(FD_SETSIZE, &readable, NULL, NULL, NULL);
        if (ready != 1 || over)
            return ready;
    }
}

static void herd(long (*wait)(blocking_t *), const char *what)
{
    blocking_t w = { .call = wait };
    pthread_t thread;
    char byte;
    over = 0;
    blocking_start(&w);
    blocking_await(&w);
    check(pthread_create(&thread, NULL, toggle, NULL), "pthread_create");
    blocking_show(&w, what);
    check(pthread_join(thread, NULL), "pthread_join");
    while (read(watched[0], &byte, 1) == 1) {}
}

/* A time stamp in the error queue is an error for every poll, but not an exception for select. */
static long select_exception(blocking_t *w)
{
    fd_set exceptional;
    FD_ZERO(&exceptional);
    FD_SET(sockets[0], &exceptional);
    if (w->size)
        FD_SET(other[0], &exceptional);
    return select(FD_SETSIZE, NULL, NULL, &exceptional, NULL);
}

static void exception_behind_an_error(size_t with_another, const char *what)
{
    int stamps = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    blocking_t w = { .call = select_exception, .size = with_another };
    make_pair(TCP, sockets);
    if (setsockopt(sockets[0], SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps) ||
        send(sockets[0], "s", 1, 0) != 1)
        die("a time stamp");
    struct pollfd failed = { sockets[0], 0, 0 };
    if (poll(&failed, 1, -1) != 1 || failed.revents != POLLERR)
        die("no error to be seen");
    blocking_start(&w);
    blocking_await(&w);
    usleep(20000); /* the spurious wake-ups, if any, happen now */
    if (send(sockets[1], "!", 1, MSG_OOB) != 1)
        die("send");
    blocking_show(&w, what);
    close_pair(sockets);
}

static void probe(void)
{
    if (pipe2(watched, O_CLOEXEC | O_NONBLOCK) || pipe2(other, O_CLOEXEC))
        die("pipe2");
    herd(poll_to_the_end, "poll in a herd");
    herd(select_to_the_end, "select in a herd");
    exception_behind_an_error(0, "select, an exception behind an error");
    exception_behind_an_error(1, "the same among others");
}
