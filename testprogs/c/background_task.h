/* SPDX-License-Identifier: MIT */
/* background_task.h - a background task for a probe, because the calls of a lone fiber would be
 * plain ones. */
#ifndef COMPANY_H
#define COMPANY_H

#include <signal.h>

#include "probe.h"

static task_sem_t company_over;
static task_t company;

/* A handler cannot end its wait, and as a thread it blocks all signals. */
static void *company_task(void *arg)
{
    sigset_t all;
    sigfillset(&all);
    if (task_options.threads && pthread_sigmask(SIG_SETMASK, &all, NULL))
        die("pthread_sigmask");
    task_sem_wait(&company_over);
    return arg;
}

static inline void company_begin(void)
{
    task_sem_init(&company_over, 0);
    company = task_spawn(company_task, NULL);
}

static inline void company_end(void)
{
    task_sem_post(&company_over);
    task_join(company);
}

#endif
