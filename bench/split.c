/* SPDX-License-Identifier: MIT */
/* split.c - divides a computation among tasks that never wait. */
#define _GNU_SOURCE
#include "tasks.h"

static const char usage[] = "split JOBS WORKERS TURNS\n"
                            "  JOBS     number of tasks\n"
                            "  WORKERS  OS threads that run the fibers\n"
                            "  TURNS    iterations of a loop in each task\n"
                            "Prints one line of JSON.\n";

static unsigned jobs;
static uint64_t turns;
static _Atomic uint64_t sum;

/* Each iteration needs the result of the last one, so none can be omitted or done in parallel. */
static void compute(unsigned member)
{
    uint64_t x = member + 1;
    for (uint64_t i = 0; i < turns; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    atomic_fetch_xor(&sum, x);
}

static void *all(void *unused)
{
    task_crew_run(jobs, compute);
    return unused;
}

int main(int argc, char **argv)
{
    jobs = argc == 4 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    unsigned workers = argc == 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    turns = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    if (!jobs || !workers || !turns) {
        fputs(usage, stderr);
        return 2;
    }
    struct snapshot from = snap();
    tasks_run(workers, all, NULL);
    struct snapshot to = snap();
    say_cost(jobs, sum, &from, &to);
    return 0;
}
