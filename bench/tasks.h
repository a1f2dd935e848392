/* SPDX-License-Identifier: MIT */
/* tasks.h - lets one source be a program on fibers or on pthreads.
 *
 * bench/build compiles every program that includes this file twice: NAME uses fibers, and
 * NAME-pthreads, which is compiled with PTHREADS defined and is not linked with libfiber, uses
 * pthreads. Nothing else differs, and no program is tuned for one of them. */
#ifndef TASKS_H
#define TASKS_H

#include "workload.h"

#ifdef PTHREADS
#include <semaphore.h>
#define ON_FIBERS 0
typedef pthread_mutex_t task_mutex_t;
typedef pthread_cond_t task_cond_t;
typedef sem_t task_sem_t;
#define TASK_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define TASK_COND_INIT PTHREAD_COND_INITIALIZER
#define task_lock pthread_mutex_lock
#define task_unlock pthread_mutex_unlock
#define task_cond_wait pthread_cond_wait
#define task_cond_signal pthread_cond_signal
#define task_cond_broadcast pthread_cond_broadcast
#define task_sem_init sem_init
#define task_sem_wait sem_wait
#define task_sem_post sem_post
#else
#define ON_FIBERS 1
typedef fiber_mutex_t task_mutex_t;
typedef fiber_cond_t task_cond_t;
typedef fiber_sem_t task_sem_t;
#define TASK_MUTEX_INIT FIBER_MUTEX_INITIALIZER
#define TASK_COND_INIT FIBER_COND_INITIALIZER
#define task_lock fiber_mutex_lock
#define task_unlock fiber_mutex_unlock
#define task_cond_wait fiber_cond_wait
#define task_cond_signal fiber_cond_signal
#define task_cond_broadcast fiber_cond_broadcast
#define task_sem_init fiber_sem_init
#define task_sem_wait fiber_sem_wait
#define task_sem_post fiber_sem_post
#endif

enum { TASK_STACK = 256 << 10 };

/* Starts a detached task. Returns an error number. */
static inline int task_try_start(void *(*fn)(void *), void *arg)
{
#ifdef PTHREADS
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, TASK_STACK);
    int error = pthread_create(&thread, &attr, fn, arg);
    pthread_attr_destroy(&attr);
    return error;
#else
    fiber_attr_t attr = FIBER_ATTR_INIT;
    attr.detached = 1;
    attr.stack_size = TASK_STACK;
    return fiber_create(NULL, &attr, fn, arg);
#endif
}

static inline void task_start(void *(*fn)(void *), void *arg)
{
    int error = task_try_start(fn, arg);
    if (error)
        die(error, "cannot start a task");
}

/* Runs fn on the first fiber of a runtime with that many workers, or on the main thread. */
static inline void tasks_run(unsigned workers, void *(*fn)(void *), void *arg)
{
#ifdef PTHREADS
    (void)workers;
    fn(arg);
#else
    on_workers(workers, fn, arg);
#endif
}

/* ---- A group counts tasks, and its owner waits until all have ended ------------------------- */

struct task_group {
    task_mutex_t mutex;
    task_cond_t empty;
    unsigned left;
};

#define TASK_GROUP_INIT                    \
    {                                      \
        TASK_MUTEX_INIT, TASK_COND_INIT, 0 \
    }

static inline void task_group_enter(struct task_group *group)
{
    task_lock(&group->mutex);
    group->left++;
    task_unlock(&group->mutex);
}

static inline void task_group_leave(struct task_group *group)
{
    task_lock(&group->mutex);
    if (--group->left == 0)
        task_cond_broadcast(&group->empty);
    task_unlock(&group->mutex);
}

static inline void task_group_wait(struct task_group *group)
{
    task_lock(&group->mutex);
    while (group->left > 0)
        task_cond_wait(&group->empty, &group->mutex);
    task_unlock(&group->mutex);
}

/* ---- A crew: a fixed number of tasks that do the same work ---------------------------------- */

struct task_crew {
    void (*work)(unsigned member);
    _Atomic unsigned next;
    struct task_group group;
};

static inline void *task_crew_member(void *arg)
{
    struct task_crew *crew = arg;
    crew->work(atomic_fetch_add(&crew->next, 1));
    task_group_leave(&crew->group);
    return NULL;
}

/* Returns when the work of all members has ended. */
static inline void task_crew_run(unsigned count, void (*work)(unsigned))
{
    /* Static, because the last member may still be inside task_group_leave when this returns. */
    static struct task_crew crew = { .group = TASK_GROUP_INIT };
    crew.work = work;
    for (unsigned i = 0; i < count; i++) {
        task_group_enter(&crew.group);
        task_start(task_crew_member, &crew);
    }
    task_group_wait(&crew.group);
}

/* ---- The result ----------------------------------------------------------------------------- */

/* Prints the line of JSON. `sum` is the same in every variant that did the work correctly. */
static inline void say_cost(uint64_t operations, uint64_t sum, const struct snapshot *from,
                            const struct snapshot *to)
{
    printf("{\"operations\": %llu, \"sum\": %llu, \"ns\": %llu, \"cpu_us\": %llu, "
           "\"preloaded\": %s, \"fiber\": %s}\n",
           (unsigned long long)operations, (unsigned long long)sum,
           (unsigned long long)(to->ns - from->ns),
           (unsigned long long)(microseconds(from->usage.ru_utime, to->usage.ru_utime) +
                                microseconds(from->usage.ru_stime, to->usage.ru_stime)),
           preloaded() ? "true" : "false", ON_FIBERS ? "true" : "false");
    fflush(stdout);
}

#endif
