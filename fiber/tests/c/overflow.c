/* SPDX-License-Identifier: MIT */
/* A fiber overflows its stack. With argv[1] "wild", it makes a bad access that is no overflow
 * instead. */
#include "expect.h"

static volatile int depth;
static int deeper(int n)
{
    volatile char frame[512];
    frame[0] = (char)n;
    depth = n;
    return deeper(n + 1) + frame[0];
}

static void *overflow(void *arg) { return (void *)(intptr_t)deeper(arg == NULL); }
static void *wild(void *arg)
{
    *(volatile int *)(intptr_t)(8 + (arg != NULL)) = 1;
    return NULL;
}

static void *all(void *fn)
{
    fiber_attr_t attr = FIBER_ATTR_INIT;
    attr.name = "digger";
    fiber_t *f;
    IS(fiber_create(&f, &attr, (void *(*)(void *))fn, NULL), 0);
    IS(fiber_join(f, NULL), 0);
    return NULL;
}

int main(int argc, char **argv)
{
    (void)argv;
    return fiber_run(NULL, all, argc > 1 ? (void *)wild : (void *)overflow, NULL);
}
