/* SPDX-License-Identifier: MIT */
/* A fiber may free the object it waited for as soon as it is woken, while the waker is still
 * finishing. */
#include "expect.h"
#include <pthread.h>

enum { ROUNDS = 3000 };
static void *volatile slot;

static void *poster(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        void *sem;
        while (!(sem = __atomic_exchange_n(&slot, NULL, __ATOMIC_ACQUIRE)))
            sched_yield();
        IS(fiber_sem_post(sem), 0);
    }
    return arg;
}

static void *all(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        fiber_sem_t *sem = malloc(sizeof *sem);
        IS(fiber_sem_init(sem, 0, 0), 0);
        __atomic_store_n(&slot, sem, __ATOMIC_RELEASE);
        if (i % 2) {
            struct timespec soon = at(CLOCK_MONOTONIC, 0);
            while (fiber_sem_clockwait(sem, CLOCK_MONOTONIC, &soon) == ETIMEDOUT)
                soon = at(CLOCK_MONOTONIC, 0);
        } else {
            IS(fiber_sem_wait(sem), 0);
        }
        memset(
            sem, 0xff,
            sizeof *sem); /* a late access would find a locked word and hang, or corrupt the heap */
        free(sem);
    }
    return arg;
}

int main(void)
{
    pthread_t thread;
    IS(pthread_create(&thread, NULL, poster, NULL), 0);
    run(all);
    IS(pthread_join(thread, NULL), 0);
    return 0;
}
