/* SPDX-License-Identifier: MIT */
/* Checks for the C tests that report where they failed. */
#ifndef EXPECT_H
#define EXPECT_H
#include <errno.h>
#include <fiber.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(ok) \
    ((ok) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #ok), _exit(1)))
#define IS(got, want) check_is(__FILE__, __LINE__, #got, (long)(got), (long)(want))

static inline void check_is(const char *file, int line, const char *what, long got, long want)
{
    if (got != want) {
        fprintf(stderr, "%s:%d: %s is %ld; expected %ld\n", file, line, what, got, want);
        _exit(1);
    }
}

static inline int run(void *(*fn)(void *))
{
    IS(fiber_run(NULL, fn, NULL, NULL), 0);
    return 0;
}

/* Returns the time that is ms milliseconds from now on the given clock, as an absolute deadline. */
static inline struct timespec at(int clock, long ms)
{
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms % 1000 * 1000000;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}
#endif
