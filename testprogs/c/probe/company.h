/* SPDX-License-Identifier: MIT */
/* company.h - another task beside the probe's own: a lone fiber's calls would be plain ones. */
#ifndef COMPANY_H
#define COMPANY_H

#include <signal.h>

#include "probe.h"

static task_sem_t company_over;
static task_t company;

/* It waits for nothing that a handler could end, and as a thread it takes no signals. */
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
