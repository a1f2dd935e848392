/* SPDX-License-Identifier: MIT */
/* pthread_exit and exit on a fiber. argv[1] "exit": a fiber ends the process with status 7, and the
 * exit handler prints a line. */
#include <pthread.h>
#include <threads.h>

#include "expect.h"

enum { FIBERS = 8 };

static int order[FIBERS][3], steps[FIBERS];

static void note(long fiber, int what) { order[fiber][steps[fiber]++] = what; }
static void first(void *fiber) { note((intptr_t)fiber, 1); }
static void second(void *fiber)
{
    fiber_yield(); /* a handler may wait */
    note((intptr_t)fiber, 2);
}
static void third(void *fiber) { note((intptr_t)fiber, 3); }

__attribute__((noinline)) static void deeper(void *fiber)
{
    pthread_cleanup_push(second, fiber);
    /* Other fibers push and pop their own handlers at the same time. */
    for (int i = 0; i < 5; i++)
        fiber_yield();
    pthread_cleanup_push(third, fiber);
    fiber_yield();
    pthread_cleanup_pop(0);
    pthread_exit((void *)((intptr_t)fiber + 100));
    pthread_cleanup_pop(1);
}

static void *leaves(void *fiber)
{
    pthread_cleanup_push(first, fiber);
    deeper(fiber);
    pthread_cleanup_pop(1);
    CHECK(0);
    return NULL;
}

static void *leaves_as_in_c11(void *arg)
{
    (void)arg;
    thrd_exit(33);
}

static int gone;
static void destroyed(void *value) { gone += (int)(intptr_t)value; }

static void *leaves_a_key(void *key)
{
    IS(fiber_setspecific(*(fiber_key_t *)key, (void *)5), 0);
    pthread_exit(NULL);
}

static int outlived;
static void *outlives(void *arg)
{
    for (int i = 0; i < 50; i++)
        fiber_yield();
    outlived = 1;
    return arg;
}

static void *all(void *arg)
{
    fiber_t *f[FIBERS];
    void *result;
    for (long i = 0; i < FIBERS; i++)
        IS(fiber_create(&f[i], NULL, leaves, (void *)i), 0);
    for (long i = 0; i < FIBERS; i++) {
        IS(fiber_join(f[i], &result), 0);
        IS((intptr_t)result, i + 100);
        IS(steps[i], 2);
        CHECK(order[i][0] == 2 && order[i][1] == 1);
    }
    IS(fiber_create(&f[0], NULL, leaves_as_in_c11, NULL), 0);
    IS(fiber_join(f[0], &result), 0);
    IS((intptr_t)result, 33);
    fiber_key_t key;
    IS(fiber_key_create(&key, destroyed), 0);
    IS(fiber_create(&f[0], NULL, leaves_a_key, &key), 0);
    IS(fiber_join(f[0], &result), 0);
    IS(gone, 5);
    IS(fiber_create(NULL, NULL, outlives, NULL), 0);
    pthread_exit(arg); /* the first fiber ends, the others continue */
}

static void says(void)
{
    puts("exit handler");
    fflush(stdout);
}

static void *exits(void *arg)
{
    fiber_yield();
    exit(7);
    return arg;
}

static void *waits(void *arg)
{
    fiber_t *f[FIBERS];
    for (int i = 0; i < FIBERS; i++)
        IS(fiber_create(&f[i], NULL, i == FIBERS - 1 ? exits : outlives, NULL), 0);
    IS(fiber_sleep(60ull * 1000000000), 0);
    return arg;
}

static void *ends_itself(void *arg) { pthread_exit((void *)((intptr_t)arg + 1)); }

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "exit")) {
        atexit(says);
        return fiber_run(NULL, waits, NULL, NULL);
    }
    void *ret = NULL;
    IS(fiber_run(NULL, all, &ret, &ret), 0);
    CHECK(ret == &ret && outlived);
    /* On a thread that runs no fibers, pthread_exit ends the thread as usual. */
    pthread_t thread;
    IS(pthread_create(&thread, NULL, ends_itself, (void *)1), 0);
    IS(pthread_join(thread, &ret), 0);
    IS((intptr_t)ret, 2);
    return 0;
}
