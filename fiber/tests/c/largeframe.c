/* SPDX-License-Identifier: MIT */
/* A frame is larger than the whole stack of its fiber, and the fiber writes only to the far end of
 * the frame. No other fiber's frames may change. */
#include "expect.h"

enum { FIBERS = 20, MINE = 16 << 10, LARGE = 1 << 20, FAR = 700 << 10 };

static int ready, done;

static void *quiet(void *arg)
{
    volatile char mine[MINE];
    memset((char *)mine, 'm', sizeof mine);
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST))
        fiber_yield();
    for (int i = 0; i < MINE; i++)
        CHECK(mine[i] == 'm');
    return arg;
}

__attribute__((noinline)) static void large(void)
{
    volatile char much[LARGE];
    for (int i = 0; i < FAR; i++)
        much[i] = 'x';
    CHECK(much[FAR - 1] == 'x');
}

static void *big(void *arg)
{
    while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < FIBERS - 1)
        fiber_yield();
    large();
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return arg;
}

static void *all(void *arg)
{
    fiber_t *f[FIBERS];
    for (long i = 0; i < FIBERS; i++)
        IS(fiber_create(&f[i], NULL, i == FIBERS / 2 ? big : quiet, NULL), 0);
    for (int i = 0; i < FIBERS; i++)
        IS(fiber_join(f[i], NULL), 0);
    return arg;
}

int main(void) { return fiber_run(NULL, all, NULL, NULL); }
