/* SPDX-License-Identifier: MIT */
/* cancelling.c - tasks are cancelled in calls that wait: the call ends without effect, no byte is lost, cleanup handlers
 * run. With --threads the same by pthread_cancel. */
#define _GNU_SOURCE
#include "probe.h"

#include <time.h>

static int ends[2];
static _Atomic int waiting, one_is_free;
static char trail[256];

static void note(void *what) { strcat(trail, what); }

static void show_trail(const char *name, void *result, void *cancelled)
{
    printf("%s: %s, %s\n", name, result == cancelled ? "cancelled" : "ended", trail);
    trail[0] = 0;
}

static void body(int (*call)(void))
{
    /* When there is something for the first, it is done before anybody cancels. */
    if (!one_is_free)
        waiting = 1;
    int result = call();
    waiting = 1;
    snprintf(trail + strlen(trail), 32, "returned %d ", result);
    result = call();
    snprintf(trail + strlen(trail), 32, "and %d ", result);
}

static void *on_fiber(void *call)
{
    fiber_cleanup_push(note, "cleanup");
    body((int (*)(void))call);
    fiber_cleanup_pop(0);
    return NULL;
}

static void *on_thread(void *call)
{
    pthread_cleanup_push(note, "cleanup");
    body((int (*)(void))call);
    pthread_cleanup_pop(0);
    return NULL;
}

static int reads(void)
{
    char buf[4];
    return (int)read(ends[0], buf, sizeof buf);
}

static int reads_vector(void)
{
    char buf[4];
    struct iovec part = { buf, sizeof buf };
    return (int)readv(ends[0], &part, 1);
}

static int sleeps(void)
{
    struct timespec long_time = { 3600, 0 };
    return nanosleep(&long_time, NULL);
}

static void cancel_in(const char *name, int (*call)(void))
{
    void *result = NULL;
    task_t task = task_spawn(task_options.threads ? on_thread : on_fiber, (void *)call);
    while (!waiting)
        task_yield();
    waiting = 0;
    /* Now or a little later it waits: either way the call ends. */
    for (int i = 0; i < 4; i++)
        task_yield();
    if (task_options.threads)
        check(pthread_cancel(task.thread), "pthread_cancel");
    else
        check(fiber_cancel(task.fiber), "fiber_cancel");
    result = task_join(task);
    show_trail(name, result, task_options.threads ? PTHREAD_CANCELED : FIBER_CANCELED);
}

static void probe(void)
{
    char buf[8] = "";
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    cancel_in("read", reads);
    cancel_in("readv", reads_vector);
    cancel_in("nanosleep", sleeps);
    /* Nobody took these. */
    write_full(ends[1], "bytes", 5);
    SHOW(read(ends[0], buf, sizeof buf));
    printf("%s\n", buf);
    /* What is there is read, then the wait for more is cancelled. */
    write_full(ends[1], "1234", 4);
    one_is_free = 1;
    cancel_in("a read, and one that waits", reads);
}
