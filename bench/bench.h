/* SPDX-License-Identifier: MIT */
/* bench.h - common parts of the benchmark programs: the clock, error exits, and rounds that are
 * requested over a pipe.
 *
 * A program stays alive and runs one round per request: it reads a line with a number of calls from
 * standard input and writes a line with nanoseconds per call to standard output. This way rounds of
 * several programs interleave within milliseconds, and a slow moment of the machine affects all of
 * them. */
#ifndef BENCH_H
#define BENCH_H

#include <dlfcn.h>
#include <errno.h>
#include <fiber.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Ends the program from a fiber or a thread with "<what>: <error>" on standard error; if error is
 * 0, only "<what>". */
__attribute__((noreturn, format(printf, 2, 3))) static inline void die(int error, const char *what,
                                                                       ...)
{
    char text[512];
    va_list args;
    va_start(args, what);
    int n = vsnprintf(text, sizeof text, what, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text)
        n = (int)strlen(text);
    if (error)
        snprintf(text + n, sizeof text - (size_t)n, ": %s", strerror(error));
    fprintf(stderr, "%s\n", text);
    fflush(stderr);
    _exit(1);
}

static inline int preloaded(void) { return dlsym(RTLD_DEFAULT, "aioshim_version") != NULL; }

/* Prints one line that says whether the shim is loaded and whether this runs on a fiber. The
 * requesting side compares it with what it expects. */
static inline void say_hello(void)
{
    printf("{\"preloaded\": %s, \"fiber\": %s}\n", preloaded() ? "true" : "false",
           fiber_self() ? "true" : "false");
    fflush(stdout);
}

/* Answers requests until standard input ends. */
static inline void serve(double (*round)(uint64_t calls))
{
    char line[64];
    say_hello();
    for (;;) {
        ssize_t n = read(0, line, sizeof line - 1);
        if (n < 0)
            die(errno, "standard input");
        if (n == 0)
            return;
        line[n] = 0;
        printf("%.3f\n", round(strtoull(line, NULL, 10)));
        fflush(stdout);
    }
}

static inline void *serve_on_fiber(void *round)
{
    serve((double (*)(uint64_t))(uintptr_t)round);
    return NULL;
}

/* Runs fn on the first fiber of a runtime with the given number of workers. */
static inline void on_workers(unsigned workers, void *(*fn)(void *), void *arg)
{
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = workers;
    int error = fiber_run(&options, fn, arg, NULL);
    if (error)
        die(error, "fiber_run");
}

static inline void on_one_worker(void *(*fn)(void *), void *arg) { on_workers(1, fn, arg); }

/* ---- A gang: fibers that start together, timed from the first start to the last end --------- */

struct gang {
    unsigned count;
    uint64_t warmup, calls; /* per member */
    void (*work)(unsigned member, uint64_t calls);
    fiber_barrier_t start;
    uint64_t started, ended;
};

struct gang_member {
    struct gang *gang;
    unsigned number;
};

static inline void *gang_member(void *arg)
{
    const struct gang_member *self = arg;
    struct gang *gang = self->gang;
    gang->work(self->number, gang->warmup);
    fiber_barrier_wait(&gang->start);
    if (!gang->started)
        gang->started = now_ns();
    gang->work(self->number, gang->calls);
    gang->ended = now_ns();
    return NULL;
}

/* Returns the nanoseconds for all calls of all members; the calling fiber is parked until they end.
 */
static inline uint64_t run_gang(unsigned count, uint64_t calls, void (*work)(unsigned, uint64_t))
{
    struct gang gang = { .count = count, .warmup = calls / 8 + 1, .calls = calls, .work = work };
    struct gang_member *members = calloc(count, sizeof *members);
    fiber_t **fibers = calloc(count, sizeof *fibers);
    if (!members || !fibers)
        die(ENOMEM, "%u fibers", count);
    int error = fiber_barrier_init(&gang.start, NULL, count);
    if (error)
        die(error, "fiber_barrier_init");
    for (unsigned i = 0; i < count; i++) {
        members[i] = (struct gang_member){ &gang, i };
        error = fiber_create(&fibers[i], NULL, gang_member, &members[i]);
        if (error)
            die(error, "fiber %u of %u", i + 1, count);
    }
    for (unsigned i = 0; i < count; i++)
        fiber_join(fibers[i], NULL);
    fiber_barrier_destroy(&gang.start);
    free(fibers);
    free(members);
    return gang.ended - gang.started;
}

#endif
