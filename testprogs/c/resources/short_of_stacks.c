/* SPDX-License-Identifier: MIT */
/* short_of_stacks.c - the address space does not suffice for the stacks of all fibers until a plain
 * thread raises its limit: then the remaining fibers start, although no fiber has ended.
 *
 * usage: short_of_stacks WORKERS */
#define _GNU_SOURCE
#include <fiber.h>
#include <pthread.h>
#include <sys/resource.h>

#include "check.h"

enum { FIBERS = 2000, LIMIT = 100 << 20 };

static fiber_barrier_t all_have_started;
static _Atomic int limited;

static void *start(void *arg)
{
    fiber_barrier_wait(&all_have_started);
    return arg;
}

static rlim_t address_space(void)
{
    unsigned long pages;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu", &pages) != 1)
        die("statm");
    fclose(file);
    return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void set_limit(rlim_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit))
        die("getrlimit");
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
    if (setrlimit(RLIMIT_AS, &limit))
        die("setrlimit");
}

/* Usually after the last fiber for which there was a stack has started. */
static void *raise_later(void *arg)
{
    while (!limited)
        usleep(1000);
    usleep(200000);
    set_limit(RLIM_INFINITY);
    return arg;
}

static void *all(void *arg)
{
    fiber_t *fibers[FIBERS];
    check(fiber_barrier_init(&all_have_started, NULL, FIBERS), "fiber_barrier_init");
    set_limit(address_space() + LIMIT);
    limited = 1;
    for (int i = 0; i < FIBERS; i++)
        check(fiber_create(&fibers[i], NULL, start, NULL), "fiber_create");
    for (int i = 0; i < FIBERS; i++)
        check(fiber_join(fibers[i], NULL), "fiber_join");
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = argc > 1 ? (unsigned)number(argv[1]) : 1;
    check(pthread_create(&thread, NULL, raise_later, NULL), "pthread_create");
    check(fiber_run(&options, all, NULL, NULL), "fiber_run");
    check(pthread_join(thread, NULL), "pthread_join");
    puts("all have started");
    return 0;
}
