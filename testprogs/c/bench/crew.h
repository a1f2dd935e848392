/* SPDX-License-Identifier: MIT */
/* crew.h - runs the same work on fibers or on pthreads that all start together, and prints a line
 * of JSON with its cost.
 *
 * Fibers stay on the worker that starts them, and a fast worker would start all of them before the
 * next one is awake. One maker per worker creates them, and the makers first wait for each other,
 * so that the result does not depend on which worker wins a race.
 *
 * The cost is the difference between two getrusage calls, made by the first member that starts and
 * by the last one that ends. Neither depends on scheduling the maker, which may not run for long if
 * the fibers never park. */
#ifndef CREW_H
#define CREW_H

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

struct crew;

struct crew_member {
    struct crew *crew;
    unsigned number;
    fiber_t *fiber;
    pthread_t thread;
};

struct crew {
    int fibers;
    unsigned count;
    unsigned workers;                 /* workers that run the fibers */
    void (*prepare)(unsigned member); /* before the start; may be NULL */
    void (*work)(unsigned member);
    struct crew_member *members;
    fiber_barrier_t fibers_start;
    pthread_barrier_t threads_start;
    _Atomic unsigned makers;
    _Atomic uint64_t started_ns; /* nonzero while members work */
    _Atomic unsigned ended;
    struct snapshot from, to; /* valid once joined */
};

static inline void crew_wait(struct crew *crew)
{
    if (crew->fibers)
        fiber_barrier_wait(&crew->fibers_start);
    else
        pthread_barrier_wait(&crew->threads_start);
}

static inline void *crew_member(void *arg)
{
    const struct crew_member *self = arg;
    struct crew *crew = self->crew;
    if (crew->prepare)
        crew->prepare(self->number);
    crew_wait(crew);
    uint64_t not_yet = 0, now = now_ns();
    if (atomic_compare_exchange_strong(&crew->started_ns, &not_yet, now)) {
        crew->from = snap();
        crew->from.ns = now;
    }
    crew->work(self->number);
    if (atomic_fetch_add(&crew->ended, 1) + 1 == crew->count)
        crew->to = snap();
    return NULL;
}

static inline void crew_make(struct crew *crew, unsigned number)
{
    struct crew_member *member = &crew->members[number];
    member->crew = crew;
    member->number = number;
    int error = crew->fibers ? fiber_create(&member->fiber, NULL, crew_member, member)
                             : pthread_create(&member->thread, NULL, crew_member, member);
    if (error)
        die(error, "%s %u of %u", crew->fibers ? "fiber" : "pthread", number + 1, crew->count);
}

/* Creates every workers-th member, once each worker runs a maker. Does not wait longer than 0.1 s
 * for the other workers. */
static inline void *crew_maker(void *arg)
{
    struct crew *crew = arg;
    const uint64_t limit = now_ns() + 100000000;
    unsigned first = atomic_fetch_add(&crew->makers, 1);
    while (atomic_load(&crew->makers) < crew->workers && now_ns() < limit)
        ;
    for (unsigned i = first; i < crew->count; i += crew->workers)
        crew_make(crew, i);
    return NULL;
}

/* Creates all members and returns when they start. Must be called on a fiber if the members are
 * fibers. */
static inline void crew_start(struct crew *crew)
{
    crew->members = calloc(crew->count, sizeof *crew->members);
    int error = !crew->members ? ENOMEM
                : crew->fibers ? fiber_barrier_init(&crew->fibers_start, NULL, crew->count + 1)
                               : pthread_barrier_init(&crew->threads_start, NULL, crew->count + 1);
    if (error)
        die(error, "a crew of %u", crew->count);
    if (!crew->fibers || crew->workers < 2) {
        for (unsigned i = 0; i < crew->count; i++)
            crew_make(crew, i);
    } else {
        fiber_t *makers[crew->workers];
        for (unsigned i = 0; i < crew->workers; i++) {
            error = fiber_create(&makers[i], NULL, crew_maker, crew);
            if (error)
                die(error, "maker %u of %u", i + 1, crew->workers);
        }
        for (unsigned i = 0; i < crew->workers; i++)
            fiber_join(makers[i], NULL);
    }
    crew_wait(crew);
}

static inline void crew_join(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++) {
        if (crew->fibers)
            fiber_join(crew->members[i].fiber, NULL);
        else
            pthread_join(crew->members[i].thread, NULL);
    }
}

/* Runs fn; if the members are fibers, on the first fiber of the crew's workers. */
static inline void crew_run(const struct crew *crew, void *(*fn)(void *), void *arg)
{
    if (!crew->fibers) {
        fn(arg);
        return;
    }
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = crew->workers;
    int error = fiber_run(&options, fn, arg, NULL);
    if (error)
        die(error, "fiber_run with %u workers", crew->workers);
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
