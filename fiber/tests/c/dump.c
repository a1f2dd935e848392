/* SPDX-License-Identifier: MIT */
/* fiber_dump prints the name of each fiber and what it waits for. */
#include "expect.h"

static fiber_sem_t sem;
static fiber_mutex_t mutex = FIBER_MUTEX_INITIALIZER;

static void *on_sem(void *arg)
{
    IS(fiber_sem_wait(&sem), 0);
    return arg;
}
static void *on_mutex(void *arg)
{
    IS(fiber_mutex_lock(&mutex), 0);
    IS(fiber_mutex_unlock(&mutex), 0);
    return arg;
}
static void *asleep(void *arg)
{
    IS(fiber_sleep(50000000), 0);
    return arg;
}
static void *nothing(void *arg) { return arg; }

static void *all(void *arg)
{
    fiber_t *f[4];
    fiber_attr_t attr = FIBER_ATTR_INIT;
    IS(fiber_sem_init(&sem, 0, 0), 0);
    IS(fiber_mutex_lock(&mutex), 0);
    attr.name = "waiter";
    IS(fiber_create(&f[0], &attr, on_sem, NULL), 0);
    IS(fiber_create(&f[1], NULL, on_mutex, NULL), 0);
    IS(fiber_create(&f[2], NULL, asleep, NULL), 0);
    for (int i = 0; i < 10; i++)
        fiber_yield();
    IS(fiber_create(&f[3], NULL, nothing, NULL), 0);
    fiber_dump(1);
    IS(fiber_sem_post(&sem), 0);
    IS(fiber_mutex_unlock(&mutex), 0);
    for (int i = 0; i < 4; i++)
        IS(fiber_join(f[i], NULL), 0);
    return arg;
}

int main(void)
{
    fiber_options_t opt = FIBER_OPTIONS_INIT;
    opt.workers = 1;
    return fiber_run(&opt, all, NULL, NULL);
}
