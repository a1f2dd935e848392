/* SPDX-License-Identifier: MIT */
/* cancelled_waits.c - a task is cancelled in its wait for a condition while the canceller holds the
 * mutex: its cleanup handler runs with the mutex locked, on private and process-shared
 * conditions. A task that ended takes no signal from another. */
#define _GNU_SOURCE
#include "probe.h"

#include <time.h>

static pthread_mutex_t mutex;
static pthread_cond_t condition;
static _Atomic int waiting, inside, cancels_itself;

static void unlock(void *arg)
{
    const char *about = inside ? "while another task is inside" : "alone";
    printf("  cleanup %s: %s\n", about, strerror(pthread_mutex_unlock(arg)));
}

static void wait_on_fiber(void)
{
    fiber_cleanup_push(unlock, &mutex);
    if (cancels_itself)
        check(fiber_cancel(fiber_self()), "fiber_cancel");
    check(pthread_cond_wait(&condition, &mutex), "pthread_cond_wait");
    fiber_cleanup_pop(1);
}

static void wait_on_thread(void)
{
    pthread_cleanup_push(unlock, &mutex);
    if (cancels_itself)
        check(pthread_cancel(pthread_self()), "pthread_cancel");
    check(pthread_cond_wait(&condition, &mutex), "pthread_cond_wait");
    pthread_cleanup_pop(1);
}

static void *waiter(void *arg)
{
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    waiting = 1;
    if (task_options.threads)
        wait_on_thread();
    else
        wait_on_fiber();
    return arg;
}

static void *waiter_for_a_time(void *arg)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    waiting = 1;
    printf("  another: %s\n", strerror(pthread_cond_timedwait(&condition, &mutex, &until)));
    check(pthread_mutex_unlock(&mutex), "pthread_mutex_unlock");
    return arg;
}

/* Returns with the mutex locked, when the task waits for the condition. */
static task_t begin(void *(*fn)(void *))
{
    waiting = 0;
    task_t task = task_spawn(fn, NULL);
    while (!waiting)
        task_yield();
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    return task;
}

static void cancel_while_inside(int signal_first)
{
    task_t task = begin(waiter);
    inside = 1;
    if (signal_first)
        check(pthread_cond_signal(&condition), "pthread_cond_signal");
    for (int i = 0; signal_first && i < 10; i++)
        usleep(1000);
    if (task_options.threads)
        check(pthread_cancel(task.thread), "pthread_cancel");
    else
        check(fiber_cancel(task.fiber), "fiber_cancel");
    for (int i = 0; i < 10; i++)
        usleep(1000);
    inside = 0;
    int unlocked = pthread_mutex_unlock(&mutex);
    void *result = task_join(task);
    printf("  unlock: %s\n", strerror(unlocked));
    /* A task that was signalled first may return from its wait. */
    if (!signal_first)
        puts(result == (task_options.threads ? PTHREAD_CANCELED : FIBER_CANCELED) ? "  cancelled"
                                                                                  : "  ended");
    printf("  trylock: %s\n", strerror(pthread_mutex_trylock(&mutex)));
    check(pthread_mutex_unlock(&mutex), "pthread_mutex_unlock");
}

/* The request is pending when the wait begins. The signal is for the other task. */
static void cancel_before(void)
{
    cancels_itself = 1;
    task_join(task_spawn(waiter, NULL));
    cancels_itself = 0;
    task_t task = begin(waiter_for_a_time);
    check(pthread_cond_signal(&condition), "pthread_cond_signal");
    check(pthread_mutex_unlock(&mutex), "pthread_mutex_unlock");
    task_join(task);
}

static void probe(void)
{
    for (int shared = 0; shared < 2; shared++) {
        pthread_mutexattr_t of_mutex;
        pthread_condattr_t of_condition;
        puts(shared ? "process-shared" : "private");
        check(pthread_mutexattr_init(&of_mutex), "pthread_mutexattr_init");
        check(pthread_mutexattr_settype(&of_mutex, PTHREAD_MUTEX_ERRORCHECK), "settype");
        check(pthread_mutexattr_setpshared(&of_mutex, shared), "setpshared");
        check(pthread_mutex_init(&mutex, &of_mutex), "pthread_mutex_init");
        check(pthread_condattr_init(&of_condition), "pthread_condattr_init");
        check(pthread_condattr_setpshared(&of_condition, shared), "setpshared");
        check(pthread_cond_init(&condition, &of_condition), "pthread_cond_init");
        cancel_while_inside(0);
        cancel_while_inside(1);
        cancel_before();
    }
}
