/* SPDX-License-Identifier: MIT */
/* background_task.h - a background task for a probe, because the calls of a lone fiber would be
 * plain ones. */
#ifndef BACKGROUND_TASK_H
#define BACKGROUND_TASK_H

#include <signal.h>

#include "probe.h"

static task_sem_t background_stop;
static task_t background_task;

/* A handler cannot end its wait, and as a thread it blocks all signals. */
static void *background_run(void *arg)
{
    sigset_t all;
    sigfillset(&all);
    if (task_options.threads && pthread_sigmask(SIG_SETMASK, &all, NULL))
        die("pthread_sigmask");
    task_sem_wait(&background_stop);
    return arg;
}

static inline void background_begin(void)
{
    task_sem_init(&background_stop, 0);
    background_task = task_spawn(background_run, NULL);
}

static inline void background_end(void)
{
    task_sem_post(&background_stop);
    task_join(background_task);
}

#endif
