/* SPDX-License-Identifier: MIT */
/* scheduler.h - a small scheduler for the tests of the table's second version. Each OS thread has a
 * queue of its own; a fiber is resumed on the thread whose queue it is in. */
#define AIOSHIM_USE_VERSION 2
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>

#include "aioshim_host.h"

enum { FIBERS = 64, STACK = 256 * 1024 };

struct scheduler;

struct fiber {
    ucontext_t context;
    void (*work)(int number);
    int number, done;
    struct scheduler *next_home; /* the fiber moves there when it has switched away */
    char *stack;
};

struct scheduler {
    ucontext_t context;
    struct fiber *current;
    struct fiber *queue[FIBERS]; /* runnable, a ring */
    unsigned head, count, left;
    uint64_t started, ended;
    aioshim_thread_t *thread;
};

static struct fiber fibers[FIBERS];
static aioshim_functions_t shim;

static void fail(const char *what)
{
    fprintf(stderr, "host: %s\n", what);
    _exit(1);
}

static void expect(int holds, const char *what)
{
    if (!holds)
        fail(what);
}

/* ---- The callbacks -------------------------------------------------------------------------- */

static void *running(void *data) { return ((struct scheduler *)data)->current; }

static unsigned runnable(void *data) { return ((struct scheduler *)data)->count; }

static void unpark(void *data, void *fiber)
{
    struct scheduler *s = data;
    s->queue[(s->head + s->count++) % FIBERS] = fiber;
}

static void park(void *data)
{
    struct scheduler *s = data;
    swapcontext(&s->current->context, &s->context);
}

static void wake(void *data) { shim.wake(((struct scheduler *)data)->thread); }

static inline void counts(void *data, aioshim_counts_t *out)
{
    struct scheduler *s = data;
    out->started = &s->started;
    out->ended = &s->ended;
}

/* ---- The scheduler -------------------------------------------------------------------------- */

static void begin(int number)
{
    fibers[number].work(number);
    fibers[number].done = 1;
}

static void make(struct scheduler *s, int number, void (*work)(int))
{
    struct fiber *fiber = &fibers[number];
    fiber->work = work;
    fiber->number = number;
    fiber->done = 0;
    if (!fiber->stack)
        fiber->stack = malloc(STACK);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK;
    fiber->context.uc_link = &s->context;
    makecontext(&fiber->context, (void (*)(void))begin, 1, number);
    unpark(s, fiber);
    s->left++;
    s->started++;
}

/* Runs the first runnable fiber, and returns it. */
static struct fiber *run_one(struct scheduler *s)
{
    struct fiber *next = s->queue[s->head];
    s->head = (s->head + 1) % FIBERS;
    s->count--;
    s->current = next;
    swapcontext(&s->context, &next->context);
    s->current = NULL;
    if (next->done) {
        s->left--;
        s->ended++;
    }
    return next;
}

/* Runs fibers until all have ended. */
static inline void run(struct scheduler *s)
{
    while (s->left > 0) {
        for (unsigned round = s->count; round > 0; round--)
            run_one(s);
        if (s->left > 0)
            shim.poll(s->thread, s->count ? 0 : -1);
    }
}
