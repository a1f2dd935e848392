/* SPDX-License-Identifier: MIT */
/* The program itself implements the interface of the shim. The runtime must find it, attach every
 * worker, poll between rounds, sleep only in poll, and wake up on a wake call. */
#include "expect.h"
#include "../../../shim/include/aioshim.h"
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <stdlib.h>

struct aioshim_thread {
    const aioshim_host_t *host;
    void *data;
    void *queue[64]; /* parked fibers that the next poll unparks */
    int queued;
    long in_flight;
    sem_t wakeups;
};

static _Thread_local aioshim_thread_t *here;
static int attached, detached, busy_polls, idle_polls, wakes;

#define COUNT(n) __atomic_add_fetch(&n, 1, __ATOMIC_RELAXED)

int aioshim_attach(const aioshim_host_t *host, void *data, aioshim_thread_t **out)
{
    CHECK(host->size >= sizeof *host);
    *out = here = calloc(1, sizeof *here);
    here->host = host;
    here->data = data;
    sem_init(&here->wakeups, 0, 0);
    COUNT(attached);
    return 0;
}

int aioshim_detach(aioshim_thread_t *t)
{
    CHECK(t == here);
    here = NULL;
    free(t);
    COUNT(detached);
    return 0;
}

int aioshim_poll(aioshim_thread_t *t, int64_t timeout)
{
    CHECK(t == here);
    CHECK(t->host->running(t->data) == NULL); /* poll runs on the scheduler's own stack */
    int n = t->queued;
    timeout ? COUNT(idle_polls) : COUNT(busy_polls);
    if (!n && timeout) {
        struct timespec until = at(CLOCK_REALTIME, timeout < 0 ? 1000000 : timeout / 1000000 + 1);
        sem_timedwait(&t->wakeups, &until);
    }
    for (int i = 0; i < n; i++)
        t->host->unpark(t->data, t->queue[i]);
    t->queued = 0;
    t->in_flight -= n;
    return n;
}

void aioshim_wake(aioshim_thread_t *t)
{
    COUNT(wakes);
    sem_post(&t->wakeups);
}
size_t aioshim_in_flight(const aioshim_thread_t *t) { return (size_t)t->in_flight; }
size_t aioshim_describe(const aioshim_thread_t *t, const void *fiber, char *buf, size_t len)
{
    (void)t;
    (void)fiber;
    return (size_t)snprintf(buf, len, "read(5)");
}

/* Does what a hooked call does. */
static void operation(void)
{
    aioshim_thread_t *t = here;
    CHECK(t->queued < 64);
    t->queue[t->queued++] = t->host->running(t->data);
    t->in_flight++;
    errno = 77;
    t->host->park(t->data);
    CHECK(t == here);
}

static void *reader(void *arg)
{
    for (int i = 0; i < 200; i++) {
        operation();
        if (i % 5 == 0) { /* the way the shim yields */
            aioshim_thread_t *t = here;
            t->host->unpark(t->data, t->host->running(t->data));
            t->host->park(t->data);
        }
    }
    return arg;
}

/* The fiber is alone on its thread: entirely if another worker took it, otherwise while the first
 * fiber waits for it. */
static void *look(void *first)
{
    int alone = here->host->alone(here->data);
    CHECK(alone == 1 || alone == 2 || here->host->runnable(here->data) > 0);
    return first;
}

static fiber_sem_t sem;
static void *post(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        IS(fiber_sem_post(&sem), 0);
        sched_yield();
    }
    return arg;
}

static void *all(void *arg)
{
    fiber_t *f[20];
    pthread_t thread;
    /* With several workers, a fiber of another worker may cancel this one. Therefore no call that
     * waits for other fibers may be a plain call. */
    CHECK(here->host->alone(here->data) == (strcmp(getenv("FIBER_WORKERS"), "1") ? 1 : 2));
    CHECK(here->host->runnable(here->data) == 0);
    IS(fiber_create(&f[0], NULL, look, fiber_self()), 0);
    IS(fiber_join(f[0], NULL), 0);
    for (int i = 0; i < 20; i++)
        IS(fiber_create(&f[i], NULL, reader, NULL), 0);
    for (int i = 0; i < 20; i++)
        IS(fiber_join(f[i], NULL), 0);
    IS(fiber_sleep(3000000), 0);
    IS(fiber_sem_init(&sem, 0, 0), 0);
    IS(pthread_create(&thread, NULL, post, NULL), 0);
    for (int i = 0; i < 1000; i++)
        IS(fiber_sem_wait(&sem), 0);
    IS(pthread_join(thread, NULL), 0);
    return arg;
}

int main(void)
{
    const char *workers = getenv("FIBER_WORKERS");
    run(all);
    IS(attached, workers ? atoi(workers) : 1);
    IS(detached, attached);
    CHECK(idle_polls > 0);
    return 0;
}
