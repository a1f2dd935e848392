/* SPDX-License-Identifier: MIT */
/* workload.h - runs the same work on fibers or on pthreads that all start together, and prints a
 * line of JSON with its cost.
 *
 * Fibers stay on the worker that starts them, and a fast worker would start all of them before the
 * next one is awake. One maker per worker creates them, and the makers first wait for each other,
 * so that the result does not depend on which worker wins a race.
 *
 * The cost is the difference between two getrusage calls, made by the first member that starts and
 * by the last one that ends. Neither depends on scheduling the maker, which may not run for long if
 * the fibers never park. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

struct snapshot {
    uint64_t ns;
    struct rusage usage;
};

static inline struct snapshot snap(void)
{
    struct snapshot s;
    getrusage(RUSAGE_SELF, &s.usage);
    s.ns = now_ns();
    return s;
}

struct workload;

struct workload_member {
    struct workload *workload;
    unsigned number;
    fiber_t *fiber;
    pthread_t thread;
};

struct workload {
    int fibers;
    unsigned count;
    unsigned workers;                 /* workers that run the fibers */
    void (*prepare)(unsigned member); /* before the start; may be NULL */
    void (*work)(unsigned member);
    struct workload_member *members;
    fiber_barrier_t fibers_start;
    pthread_barrier_t threads_start;
    _Atomic unsigned makers;
    _Atomic uint64_t started_ns; /* nonzero while members work */
    _Atomic unsigned ended;
    struct snapshot from, to; /* valid once joined */
};

static inline void workload_wait(struct workload *workload)
{
    if (workload->fibers)
        fiber_barrier_wait(&workload->fibers_start);
    else
        pthread_barrier_wait(&workload->threads_start);
}

static inline void *workload_member(void *arg)
{
    const struct workload_member *self = arg;
    struct workload *workload = self->workload;
    if (workload->prepare)
        workload->prepare(self->number);
    workload_wait(workload);
    uint64_t not_yet = 0, now = now_ns();
    if (atomic_compare_exchange_strong(&workload->started_ns, &not_yet, now)) {
        workload->from = snap();
        workload->from.ns = now;
    }
    workload->work(self->number);
    if (atomic_fetch_add(&workload->ended, 1) + 1 == workload->count)
        workload->to = snap();
    return NULL;
}

static inline void workload_make(struct workload *workload, unsigned number)
{
    struct workload_member *member = &workload->members[number];
    member->workload = workload;
    member->number = number;
    int error = workload->fibers ? fiber_create(&member->fiber, NULL, workload_member, member)
                                 : pthread_create(&member->thread, NULL, workload_member, member);
    if (error)
        die(error, "%s %u of %u", workload->fibers ? "fiber" : "pthread", number + 1,
            workload->count);
}

/* Creates every workers-th member, once each worker runs a maker. Does not wait longer than 0.1 s
 * for the other workers. */
static inline void *workload_maker(void *arg)
{
    struct workload *workload = arg;
    const uint64_t limit = now_ns() + 100000000;
    unsigned first = atomic_fetch_add(&workload->makers, 1);
    while (atomic_load(&workload->makers) < workload->workers && now_ns() < limit)
        ;
    for (unsigned i = first; i < workload->count; i += workload->workers)
        workload_make(workload, i);
    return NULL;
}

/* Creates all members and returns when they start. Must be called on a fiber if the members are
 * fibers. */
static inline void workload_start(struct workload *workload)
{
    workload->members = calloc(workload->count, sizeof *workload->members);
    int error = !workload->members ? ENOMEM
                : workload->fibers
                    ? fiber_barrier_init(&workload->fibers_start, NULL, workload->count + 1)
                    : pthread_barrier_init(&workload->threads_start, NULL, workload->count + 1);
    if (error)
        die(error, "a workload of %u", workload->count);
    if (!workload->fibers || workload->workers < 2) {
        for (unsigned i = 0; i < workload->count; i++)
            workload_make(workload, i);
    } else {
        fiber_t *makers[workload->workers];
        for (unsigned i = 0; i < workload->workers; i++) {
            error = fiber_create(&makers[i], NULL, workload_maker, workload);
            if (error)
                die(error, "maker %u of %u", i + 1, workload->workers);
        }
        for (unsigned i = 0; i < workload->workers; i++)
            fiber_join(makers[i], NULL);
    }
    workload_wait(workload);
}

static inline void workload_join(struct workload *workload)
{
    for (unsigned i = 0; i < workload->count; i++) {
        if (workload->fibers)
            fiber_join(workload->members[i].fiber, NULL);
        else
            pthread_join(workload->members[i].thread, NULL);
    }
}

/* Runs fn; if the members are fibers, on the first fiber of the workload's workers. */
static inline void workload_run(const struct workload *workload, void *(*fn)(void *), void *arg)
{
    if (!workload->fibers) {
        fn(arg);
        return;
    }
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = workload->workers;
    int error = fiber_run(&options, fn, arg, NULL);
    if (error)
        die(error, "fiber_run with %u workers", workload->workers);
}

/* Returns a number from /proc/self/status, or 0 if it is missing. */
static inline unsigned long status(const char *name)
{
    static char text[8192];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[n > 0 ? n : 0] = 0;
    const char *line = strstr(text, name);
    return line ? strtoul(line + strlen(name), NULL, 10) : 0;
}

static inline uint64_t microseconds(struct timeval from, struct timeval to)
{
    return (uint64_t)((to.tv_sec - from.tv_sec) * 1000000 + (to.tv_usec - from.tv_usec));
}

/* Prints the line of JSON: the number of operations between the snapshots, and whether they ended
 * because the work was exhausted and not because the time was over. */
static inline void say_phase(uint64_t operations, const struct snapshot *from,
                             const struct snapshot *to, unsigned long threads, int exhausted)
{
    const struct rusage *a = &from->usage, *b = &to->usage;
    printf("{\"operations\": %llu, \"ns\": %llu, \"user_us\": %llu, \"system_us\": %llu, "
           "\"voluntary\": %ld, "
           "\"involuntary\": %ld, \"device_bytes\": %lld, \"threads\": %lu, \"peak_rss_kib\": %lu, "
           "\"exhausted\": %s, \"preloaded\": %s, \"fiber\": %s}\n",
           (unsigned long long)operations, (unsigned long long)(to->ns - from->ns),
           (unsigned long long)microseconds(a->ru_utime, b->ru_utime),
           (unsigned long long)microseconds(a->ru_stime, b->ru_stime), b->ru_nvcsw - a->ru_nvcsw,
           b->ru_nivcsw - a->ru_nivcsw, (long long)(b->ru_inblock - a->ru_inblock) * 512, threads,
           status("\nVmHWM:"), exhausted ? "true" : "false", preloaded() ? "true" : "false",
           fiber_self() ? "true" : "false");
    fflush(stdout);
}

/* A permutation of the numbers below 2^bits, because xor, multiplication by odd numbers and right
 * shifts are each invertible. */
static inline uint64_t permuted(uint64_t x, unsigned bits, uint64_t seed)
{
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    const unsigned half = bits / 2 ? bits / 2 : 1;
    x = (x ^ seed) & mask;
    for (int i = 0; i < 3; i++) {
        x = (x * UINT64_C(0x9e3779b97f4a7c15)) & mask;
        x ^= x >> half;
    }
    return x;
}

static inline uint64_t fresh_seed(void) { return now_ns() * UINT64_C(0xd1342543de82ef95) >> 16; }

#endif
