/* SPDX-License-Identifier: MIT */
/* scheduler - see scheduler.h. The first half is any scheduler: stacks, a queue, a loop. The second
 * half attaches it: the table, and three calls in coroutine_run. */
#define _GNU_SOURCE
#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "scheduler.h"

#include <errno.h>
#include <stdlib.h>

#include "aioshim_host.h"
#include "stacks.h"

enum { STACK = 256 * 1024 };

/* What the statistics of the shim call this scheduler. */
#ifndef LIBRARY
#define LIBRARY "template 1"
#endif

struct coroutine {
    stack_context context; /* while it does not run */
    struct coroutine *next_runnable;
    struct coroutine *next, **previous; /* in the list of all */
    void (*body)(void *arg);
    void *arg;
    void *stack;
    int ended;
};

static _Thread_local struct scheduler {
    stack_context context; /* of coroutine_run, while a coroutine runs */
    struct coroutine *current;
    struct coroutine *first, *last; /* runnable */
    unsigned runnable;
    struct coroutine *all;
    uint64_t started, ended;
    aioshim_thread_t *thread; /* NULL: not attached */
} scheduler;

static aioshim_functions_t shim;

/* ---- The scheduler -------------------------------------------------------------------------- */

static void make_runnable(struct scheduler *s, struct coroutine *c)
{
    c->next_runnable = NULL;
    if (s->first)
        s->last->next_runnable = c;
    else
        s->first = c;
    s->last = c;
    s->runnable++;
}

static void switch_away(struct scheduler *s) { stack_switch(&s->current->context, &s->context); }

static void begin(void)
{
    struct coroutine *self = scheduler.current;
    self->body(self->arg);
    self->ended = 1;
    switch_away(&scheduler); /* and never come back */
}

int coroutine_spawn(void (*body)(void *), void *arg)
{
    struct scheduler *s = &scheduler;
    struct coroutine *c = calloc(1, sizeof *c);
    if (!c)
        return ENOMEM;
    c->stack = stack_map(STACK);
    if (!c->stack) {
        free(c);
        return ENOMEM;
    }
    c->body = body;
    c->arg = arg;
    stack_begin(&c->context, c->stack, STACK, begin);
    if (s->all)
        s->all->previous = &c->next;
    c->next = s->all;
    c->previous = &s->all;
    s->all = c;
    s->started++;
    make_runnable(s, c);
    return 0;
}

void coroutine_yield(void)
{
    struct scheduler *s = &scheduler;
    make_runnable(s, s->current);
    switch_away(s);
}

static void end(struct coroutine *c)
{
    if (scheduler.thread && shim.ended)
        shim.ended(scheduler.thread, c);
    *c->previous = c->next;
    if (c->next)
        c->next->previous = c->previous;
    stack_unmap(c->stack, STACK);
    free(c);
    scheduler.ended++;
}

/* Runs the coroutines that are runnable now. */
static void run_round(struct scheduler *s)
{
    for (unsigned left = s->runnable; left > 0; left--) {
        struct coroutine *c = s->first;
        s->first = c->next_runnable;
        s->runnable--;
        s->current = c;
        stack_switch(&s->context, &c->context);
        s->current = NULL;
        if (c->ended)
            end(c);
    }
}

/* ---- The host of the shim ------------------------------------------------------------------- */

static void *running(void *data) { return ((struct scheduler *)data)->current; }

static void park(void *data) { switch_away(data); }

static void unpark(void *data, void *fiber) { make_runnable(data, fiber); }

static unsigned runnable(void *data) { return ((struct scheduler *)data)->runnable; }

static void wake(void *data) { shim.wake(((struct scheduler *)data)->thread); }

/* This scheduler has no timers: what is neither runnable nor the only coroutine is parked. */
static int alone(void *data)
{
    struct scheduler *s = data;
    return s->all && !s->all->next ? 2 : 0;
}

static void counts(void *data, aioshim_counts_t *out)
{
    out->started = &((struct scheduler *)data)->started;
    out->ended = &((struct scheduler *)data)->ended;
}

static const aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .alone = alone,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL,
    .library = LIBRARY,
    .counts = counts,
};

/* Nothing is runnable: sleeps until something is. */
static void sleep_in_shim(struct scheduler *s)
{
    if (s->thread && !aioshim_is_deadlock(&shim, s->thread, 0)) {
        shim.poll(s->thread, -1);
        return;
    }
    fprintf(stderr, "scheduler: deadlock: all coroutines wait, and nothing can wake any of them\n");
    for (struct coroutine *c = s->all; c; c = c->next) {
        char reason[64] = "";
        if (s->thread)
            shim.describe(s->thread, c, reason, sizeof reason);
        fprintf(stderr, "  coroutine %p %s\n", (void *)c, reason);
    }
    abort();
}

void coroutine_run(void)
{
    struct scheduler *s = &scheduler;
    if (aioshim_find(&shim) && shim.attach(&table, s, &s->thread) != 0)
        s->thread = NULL;
    while (s->all) {
        run_round(s);
        if (s->all && !s->runnable)
            sleep_in_shim(s);
        else if (s->thread)
            shim.poll(s->thread, 0);
    }
    if (s->thread)
        shim.detach(s->thread);
    s->thread = NULL;
}
