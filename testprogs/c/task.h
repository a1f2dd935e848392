/* SPDX-License-Identifier: MIT */
/* task.h - lets one program run on two kinds of threads: a task is a fiber, or with --threads a
 * pthread. */
#ifndef TASK_H
#define TASK_H

#include <fiber.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>

#include "check.h"

/* ---- Options -------------------------------------------------------------------------------- */

struct task_options {
    int threads;      /* pthreads, not fibers */
    unsigned tasks;   /* how many */
    unsigned workers; /* OS threads that run the fibers */
};

#define TASK_SHORT "n:w:"
#define TASK_LONG \
    { "threads", no_argument, NULL, 'T' }, { "help", no_argument, NULL, 'h' }
#define TASK_HELP                                                \
    "  -n N        tasks (default 32)\n"                         \
    "  -w N        OS threads that run the fibers (default 1)\n" \
    "  --threads   pthreads instead of fibers\n"                 \
    "  --help      this text\n"

static struct task_options task_options = { 0, 32, 1 };

/* Handles one option of getopt_long that the program does not handle itself. */
static inline void task_option(int option, const char *help)
{
    switch (option) {
    case 'n': task_options.tasks = (unsigned)number(optarg); break;
    case 'w': task_options.workers = (unsigned)number(optarg); break;
    case 'T': task_options.threads = 1; break;
    case 'h': fputs(help, stdout); exit(EXIT_SUCCESS);
    default: fputs(help, stderr); exit(EXIT_FAILURE);
    }
    if (task_options.tasks == 0 || task_options.workers == 0)
        wrong("at least one task and one worker");
}

/* ---- Tasks ---------------------------------------------------------------------------------- */

typedef union {
    fiber_t *fiber;
    pthread_t thread;
} task_t;

/* Runs fn(arg) as the first task. */
static inline void task_run(void *(*fn)(void *), void *arg)
{
    if (task_options.threads) {
        fn(arg);
        return;
    }
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = task_options.workers;
    check(fiber_run(&options, fn, arg, NULL), "fiber_run");
}

static inline task_t task_spawn(void *(*fn)(void *), void *arg)
{
    task_t t;
    if (task_options.threads)
        check(pthread_create(&t.thread, NULL, fn, arg), "pthread_create");
    else
        check(fiber_create(&t.fiber, NULL, fn, arg), "fiber_create");
    return t;
}

static inline void *task_join(task_t t)
{
    void *result;
    if (task_options.threads)
        check(pthread_join(t.thread, &result), "pthread_join");
    else
        check(fiber_join(t.fiber, &result), "fiber_join");
    return result;
}

/* Runs fn on n elements of size bytes, one task each, and waits for all. */
static inline void task_each(void *(*fn)(void *), void *elements, size_t size, unsigned n)
{
    task_t *tasks = allocate(n * sizeof *tasks);
    for (unsigned i = 0; i < n; i++)
        tasks[i] = task_spawn(fn, (char *)elements + i * size);
    for (unsigned i = 0; i < n; i++)
        task_join(tasks[i]);
    free(tasks);
}

static inline void task_yield(void)
{
    if (task_options.threads)
        sched_yield();
    else
        fiber_yield();
}

/* ---- Waiting for each other ----------------------------------------------------------------- */

typedef union {
    fiber_mutex_t fiber;
    pthread_mutex_t thread;
} task_mutex_t;
typedef union {
    fiber_cond_t fiber;
    pthread_cond_t thread;
} task_cond_t;
typedef union {
    fiber_sem_t fiber;
    sem_t thread;
} task_sem_t;
typedef union {
    fiber_barrier_t fiber;
    pthread_barrier_t thread;
} task_barrier_t;

#define TASK_CALL(name, on_fiber, on_thread) \
    check(task_options.threads ? (on_thread) : (on_fiber), name)

static inline void task_mutex_init(task_mutex_t *m)
{
    TASK_CALL("mutex_init", fiber_mutex_init(&m->fiber, NULL),
              pthread_mutex_init(&m->thread, NULL));
}

static inline void task_lock(task_mutex_t *m)
{
    TASK_CALL("mutex_lock", fiber_mutex_lock(&m->fiber), pthread_mutex_lock(&m->thread));
}

static inline void task_unlock(task_mutex_t *m)
{
    TASK_CALL("mutex_unlock", fiber_mutex_unlock(&m->fiber), pthread_mutex_unlock(&m->thread));
}

static inline void task_cond_init(task_cond_t *c)
{
    TASK_CALL("cond_init", fiber_cond_init(&c->fiber, NULL), pthread_cond_init(&c->thread, NULL));
}

static inline void task_wait(task_cond_t *c, task_mutex_t *m)
{
    TASK_CALL("cond_wait", fiber_cond_wait(&c->fiber, &m->fiber),
              pthread_cond_wait(&c->thread, &m->thread));
}

static inline void task_signal(task_cond_t *c)
{
    TASK_CALL("cond_signal", fiber_cond_signal(&c->fiber), pthread_cond_signal(&c->thread));
}

static inline void task_broadcast(task_cond_t *c)
{
    TASK_CALL("cond_broadcast", fiber_cond_broadcast(&c->fiber),
              pthread_cond_broadcast(&c->thread));
}

static inline void task_sem_init(task_sem_t *s, unsigned value)
{
    TASK_CALL("sem_init", fiber_sem_init(&s->fiber, 0, value),
              sem_init(&s->thread, 0, value) ? errno : 0);
}

static inline void task_sem_wait(task_sem_t *s)
{
    if (!task_options.threads) {
        check(fiber_sem_wait(&s->fiber), "sem_wait");
        return;
    }
    while (sem_wait(&s->thread))
        if (errno != EINTR)
            die("sem_wait");
}

static inline void task_sem_post(task_sem_t *s)
{
    TASK_CALL("sem_post", fiber_sem_post(&s->fiber), sem_post(&s->thread) ? errno : 0);
}

static inline void task_barrier_init(task_barrier_t *b, unsigned count)
{
    TASK_CALL("barrier_init", fiber_barrier_init(&b->fiber, NULL, count),
              pthread_barrier_init(&b->thread, NULL, count));
}

static inline void task_barrier_wait(task_barrier_t *b)
{
    int result =
        task_options.threads ? pthread_barrier_wait(&b->thread) : fiber_barrier_wait(&b->fiber);
    if (result != PTHREAD_BARRIER_SERIAL_THREAD && result != FIBER_BARRIER_SERIAL_FIBER)
        check(result, "barrier_wait");
}

#endif
