/* SPDX-License-Identifier: MIT */
/* changed_array.c - another task changes the array of poll, or the sets of select, while the call
 * waits: the call waits for the files that it was made with, and reports their events. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <dlfcn.h>
#include <locale.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/select.h>

static int ends[2], other[2];
static struct pollfd polled[3];
static struct timespec limit;
static fd_set readable;

static long poll_array(blocking_t *w)
{
    (void)w;
    return poll(polled, 3, -1);
}

static long poll_one(blocking_t *w)
{
    (void)w;
    return poll(polled, 1, -1);
}

static long ppoll_array(blocking_t *w)
{
    (void)w;
    return ppoll(polled, 3, &limit, NULL);
}

static long select_sets(blocking_t *w)
{
    (void)w;
    return select(ends[0] + 1, &readable, NULL, NULL, NULL);
}

static const struct {
    const char *name;
    long (*call)(blocking_t *);
} calls[] = {
    { "poll", poll_array },
    { "poll of one file", poll_one },
    { "ppoll", ppoll_array },
    { "select", select_sets },
    { "poll with few descriptors", poll_array },
    { "ppoll with few descriptors", ppoll_array },
};
enum { WITH_FEW = 4, FEW = 10 };

static void set_arguments(void)
{
    polled[0] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
    polled[1] = (struct pollfd){ .fd = -1, .events = POLLIN, .revents = 9 };
    polled[2] = (struct pollfd){ .fd = other[0], .events = POLLIN, .revents = 9 };
    limit = (struct timespec){ .tv_sec = 1000 };
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
}

/* The file that the call waits for disappears from its arguments, and one that is ready appears. */
static void change_arguments(void)
{
    polled[0] = (struct pollfd){ .fd = -1 };
    polled[1] = (struct pollfd){ .fd = other[1], .events = POLLOUT };
    limit = (struct timespec){ .tv_sec = 0 };
    FD_ZERO(&readable);
}

static _Atomic int changes_in_locale;

/* The shim calls this after it has copied the array and before a thread makes the whole call. In
 * between, the array comes to name no file. */
locale_t uselocale(locale_t locale)
{
    if (atomic_exchange(&changes_in_locale, 0))
        polled[0].fd = polled[2].fd = -1;
    return ((__typeof__(&uselocale))dlsym(RTLD_NEXT, "uselocale"))(locale);
}

static void probe(void)
{
    char byte;
    struct rlimit files, few;
    if (pipe2(ends, O_CLOEXEC) || pipe2(other, O_CLOEXEC) || getrlimit(RLIMIT_NOFILE, &files))
        die("pipe2");
    few = files;
    few.rlim_cur = FEW;
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        blocking_t waiter = { .call = calls[i].call };
        set_arguments();
        /* The shim gets no number for an epoll instance, so the whole call waits in the kernel. */
        if (i >= WITH_FEW && setrlimit(RLIMIT_NOFILE, &few))
            die("setrlimit");
        changes_in_locale = i >= WITH_FEW;
        blocking_start(&waiter);
        blocking_await(&waiter);
        change_arguments();
        SHOW(write(ends[1], "x", 1));
        blocking_show(&waiter, calls[i].name);
        setrlimit(RLIMIT_NOFILE, &files);
        for (unsigned at = 0; at < 3 && waiter.call != select_sets; at++)
            printf("events %x, found %x\n", polled[at].events, polled[at].revents);
        printf("in the set: %d\n", FD_ISSET(ends[0], &readable) != 0);
        SHOW(read(ends[0], &byte, 1));
    }
}
