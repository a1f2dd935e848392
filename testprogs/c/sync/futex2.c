/* SPDX-License-Identifier: MIT */
/* futex2.c - futex_wait, futex_wake, futex_requeue and futex_waitv through syscall(2): their
 * results, waits of tasks for each other and for a plain thread, and how they mix with futex(2). */
#define _GNU_SOURCE
#include "background_task.h"

#include <linux/futex.h>
#include <sys/mman.h>

/* The headers of glibc 2.31 have none of these. */
enum { WAKE = 454, WAIT = 455, REQUEUE = 456, WAITV = 449 };
enum { U8, U16, U32, U64, NODE, PRIVATE = 128, SHARED_U32 = U32, PRIVATE_U32 = U32 | PRIVATE };
struct waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
};

enum { TASKS = 4 };
static _Alignas(8) uint32_t word[2], second[2];

static long wait_for(uint32_t *at, unsigned long value, unsigned long mask, unsigned flags,
                     const struct timespec *until, clockid_t clock)
{
    return syscall(WAIT, at, value, mask, flags, until, clock);
}

static long wake(uint32_t *at, unsigned long mask, int n, unsigned flags)
{
    return syscall(WAKE, at, mask, n, flags);
}

static const struct timespec past = { 1, 0 }, bad = { 1, 1000000000 }, negative = { -5, 0 };

static struct timespec soon(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    if ((t.tv_nsec += 3000000) >= 1000000000)
        t.tv_nsec -= 1000000000, t.tv_sec++;
    return t;
}

static void results(void)
{
    static const unsigned kinds[] = { SHARED_U32, PRIVATE_U32 };
    uint32_t *nowhere = (uint32_t *)16, *crooked = (uint32_t *)((char *)word + 1);
    const unsigned long large = 1UL << 32;
    for (int i = 0; i < 2; i++) {
        unsigned flags = kinds[i];
        struct timespec real = soon(CLOCK_REALTIME), steady = soon(CLOCK_MONOTONIC);
        SHOW(wait_for(word, 1, ~0U, flags, NULL, 0));
        SHOW(wait_for(word, 0, ~0U, flags, &past, CLOCK_REALTIME));
        SHOW(wait_for(word, 0, ~0U, flags, &past, CLOCK_MONOTONIC));
        SHOW(wait_for(word, 0, ~0U, flags, &real, CLOCK_REALTIME));
        SHOW(wait_for(word, 0, ~0U, flags, &steady, CLOCK_MONOTONIC));
        SHOW(wait_for(word, 1, ~0U, flags, &past, CLOCK_MONOTONIC));
        SHOW(wait_for(word, 0, ~0U, flags, &bad, CLOCK_MONOTONIC));
        SHOW(wait_for(word, 0, ~0U, flags, &negative, CLOCK_MONOTONIC));
        SHOW(wait_for(word, 0, ~0U, flags, &past, CLOCK_BOOTTIME));
        SHOW(wait_for(word, 1, ~0U, flags, NULL, CLOCK_BOOTTIME));
        SHOW(wait_for(word, 0, ~0U, flags, (struct timespec *)nowhere, CLOCK_MONOTONIC));
        SHOW(wait_for(word, 0, 0, flags, NULL, 0));
        SHOW(wait_for(word, large, ~0U, flags, NULL, 0));
        SHOW(wait_for(word, 0, large, flags, NULL, 0));
        SHOW(wait_for(nowhere, 0, ~0U, flags, NULL, 0));
        SHOW(wait_for(crooked, 0, ~0U, flags, NULL, 0));
        SHOW(wake(word, ~0U, 1, flags));
        SHOW(wake(word, ~0U, 0, flags));
        SHOW(wake(word, ~0U, -1, flags));
        SHOW(wake(word, 0, 1, flags));
        SHOW(wake(word, large, 1, flags));
        SHOW(wake(crooked, ~0U, 1, flags));
    }
    SHOW(wait_for(word, 0, ~0U, U64, NULL, 0));
    SHOW(wait_for(word, 0, ~0U, U8, NULL, 0));
    SHOW(wait_for(word, 0, ~0U, U32 | 64, NULL, 0));
    SHOW(wake(word, ~0U, 1, U16));
    SHOW(wake(word, ~0U, 1, U32 | 64));
    struct waiter both[2] = { { 1, (uintptr_t)word, SHARED_U32, 0 },
                              { 0, (uintptr_t)second, SHARED_U32, 0 } };
    SHOW(syscall(REQUEUE, both, 0, 1, 1));
    both[0].value = 0;
    SHOW(syscall(REQUEUE, both, 0, 1, 1));
    SHOW(syscall(REQUEUE, both, 1, 1, 1));
    SHOW(syscall(REQUEUE, both, 0, -1, 1));
    SHOW(syscall(REQUEUE, NULL, 0, 1, 1));
    SHOW(syscall(REQUEUE, nowhere, 0, 1, 1));
    both[0].reserved = 1;
    SHOW(syscall(REQUEUE, both, 0, 1, 1));
}

/* The node of the waiter is in the second word; a wait for a word with a node must be aligned. */
static void words_with_nodes(void)
{
    word[1] = second[1] = 0;
    SHOW(wait_for(word, 1, ~0U, PRIVATE_U32 | NODE, NULL, 0));
    SHOW(wait_for(word + 1, 0, ~0U, PRIVATE_U32 | NODE, NULL, 0));
    SHOW(wait_for(word, 0, ~0U, PRIVATE_U32 | NODE, &past, CLOCK_MONOTONIC));
    SHOW(wake(word, ~0U, 1, PRIVATE_U32 | NODE));
}

/* ---- Tasks that wait for each other --------------------------------------------------------- */

struct wait {
    unsigned flags, mask;
    int by; /* WAIT, WAITV, or SYS_futex */
};

static void *waits(void *arg)
{
    const struct wait *w = arg;
    struct waiter both[2] = { { 0, (uintptr_t)second, w->flags, 0 },
                              { 0, (uintptr_t)word, w->flags, 0 } };
    int private = w->flags & PRIVATE ? FUTEX_PRIVATE_FLAG : 0;
    long result = w->by == WAIT    ? wait_for(word, 0, w->mask, w->flags, NULL, -1)
                  : w->by == WAITV ? syscall(WAITV, both, 2, 0, NULL, 0)
                                   : syscall(SYS_futex, word, FUTEX_WAIT_BITSET | private, 0, NULL,
                                             NULL, w->mask);
    return (void *)(result < 0 ? -errno : result);
}

/* Repeats the call until n waiters are woken, because they may not wait yet. */
static long until(long n, long (*some)(const struct wait *), const struct wait *w)
{
    long woken = 0;
    while (woken < n) {
        long more = some(w);
        if (more < 0)
            die("wake");
        woken += more;
        task_yield();
    }
    return woken;
}

static long wake_one(const struct wait *w) { return wake(word, w->mask, 1, w->flags); }
static long wake_bit(const struct wait *w) { return wake(word, 4, TASKS, w->flags); }
static long wake_most(const struct wait *w) { return wake(word, ~0U, TASKS, w->flags); }
static long wake_older(const struct wait *w)
{
    int private = w->flags & PRIVATE ? FUTEX_PRIVATE_FLAG : 0;
    return syscall(SYS_futex, word, FUTEX_WAKE | private, TASKS, NULL, NULL, 0);
}

static void *wake_from_thread(void *arg)
{
    until(TASKS, wake_one, arg);
    return arg;
}

static void wake_by_thread(const struct wait *w)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, wake_from_thread, (void *)w), "pthread_create");
    check(pthread_join(thread, NULL), "pthread_join");
}

static void each_other(void)
{
    static const struct wait kinds[] = {
        { SHARED_U32, 5, WAIT },     { PRIVATE_U32, 5, WAIT },     { SHARED_U32, ~0U, WAITV },
        { PRIVATE_U32, ~0U, WAITV }, { SHARED_U32, 5, SYS_futex }, { PRIVATE_U32, 5, SYS_futex },
    };
    static long (*const ways[])(const struct wait *) = { wake_one, wake_bit, wake_most,
                                                         wake_older };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t way = 0; way <= sizeof ways / sizeof *ways; way++) {
            struct wait wait = kinds[k];
            task_t tasks[TASKS];
            for (int i = 0; i < TASKS; i++)
                tasks[i] = task_spawn(waits, &wait);
            /* No waiter has this bit. */
            if (wait.mask != ~0U && wake(word, 2, TASKS, wait.flags))
                wrong("a waiter with another bit was woken");
            if (way == sizeof ways / sizeof *ways)
                wake_by_thread(&wait);
            else
                printf("%zu, %zu: %ld woken\n", k, way, until(TASKS, ways[way], &wait));
            for (int i = 0; i < TASKS; i++)
                printf("  %ld\n", (long)task_join(tasks[i]));
        }
}

/* Waiters of a shared futex move to the second word, where they are woken. */
static void moved(void)
{
    struct wait wait = { SHARED_U32, ~0U, WAIT };
    struct waiter both[2] = { { 0, (uintptr_t)word, SHARED_U32, 0 },
                              { 0, (uintptr_t)second, SHARED_U32, 0 } };
    task_t tasks[TASKS];
    long n = 0, woken = 0;
    for (int i = 0; i < TASKS; i++)
        tasks[i] = task_spawn(waits, &wait);
    while (n < TASKS) {
        long more = syscall(REQUEUE, both, 0, 0, TASKS);
        if (more < 0)
            die("futex_requeue");
        n += more;
        task_yield();
    }
    printf("moved %ld\n", n);
    printf("%ld are left\n", wake(word, ~0U, TASKS, SHARED_U32));
    for (; woken < TASKS; woken += wake(second, ~0U, 1, SHARED_U32))
        ;
    printf("woken %ld\n", woken);
    for (int i = 0; i < TASKS; i++)
        task_join(tasks[i]);
}

static void probe(void)
{
    if (wake(word, ~0U, 1, PRIVATE_U32) < 0 && errno == ENOSYS) {
        fprintf(stderr, "no futex2 here\n");
        exit(EXIT_SKIP);
    }
    background_begin();
    results();
    words_with_nodes();
    each_other();
    moved();
    background_end();
}
