/* SPDX-License-Identifier: MIT */
/* work.h - computation that stands between I/O, and the processors that a program may use.
 *
 * The work is a number of loop iterations, the same for all variants of a program. */
#ifndef WORK_H
#define WORK_H

#include "bench.h"

#include <sched.h>

/* Each iteration needs the result of the last one, so none can be omitted or done in parallel. */
__attribute__((noinline)) static uint64_t work(uint64_t n)
{
    uint64_t x = n | 1;
    for (uint64_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static volatile uint64_t sink;

/* Restricts the program to the first processors of those it may use. */
static inline void use_processors(int count)
{
    cpu_set_t all, few;
    CPU_ZERO(&few);
    if (sched_getaffinity(0, sizeof all, &all))
        die(errno, "sched_getaffinity");
    for (int cpu = 0, n = 0; cpu < CPU_SETSIZE && n < count; cpu++)
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &few);
            n++;
        }
    if (sched_setaffinity(0, sizeof few, &few))
        die(errno, "sched_setaffinity");
}

#endif
