/* SPDX-License-Identifier: MIT */
/* A deadlock with fibers that wait on every kind of object. argv[1] "many": more fibers than the
 * report lists. argv[1] "post": a plain thread posts, so it is no deadlock. */
#include "expect.h"
#include <pthread.h>

static fiber_mutex_t mutex = FIBER_MUTEX_INITIALIZER;
static fiber_cond_t cond = FIBER_COND_INITIALIZER;
static fiber_rwlock_t lock = FIBER_RWLOCK_INITIALIZER;
static fiber_barrier_t barrier;
static fiber_sem_t sem;

static void *on_mutex(void *arg)
{
    fiber_mutex_lock(&mutex);
    return arg;
}
static void *on_cond(void *arg)
{
    fiber_mutex_t own = FIBER_MUTEX_INITIALIZER;
    fiber_mutex_lock(&own);
    fiber_cond_wait(&cond, &own);
    return arg;
}
static void *on_read(void *arg)
{
    fiber_rwlock_rdlock(&lock);
    return arg;
}
static void *on_barrier(void *arg)
{
    fiber_barrier_wait(&barrier);
    return arg;
}
static void *on_sem(void *arg)
{
    fiber_sem_wait(&sem);
    return arg;
}

static void *all(void *many)
{
    fiber_t *f;
    fiber_attr_t attr = FIBER_ATTR_INIT;
    IS(fiber_mutex_lock(&mutex), 0);
    IS(fiber_rwlock_wrlock(&lock), 0);
    IS(fiber_barrier_init(&barrier, NULL, 2), 0);
    void *(*kinds[])(void *) = { on_mutex, on_cond, on_read, on_barrier, on_sem };
    for (int i = 0; i < 5; i++)
        IS(fiber_create(&f, NULL, kinds[i], NULL), 0);
    for (int i = 0; many && i < 200; i++)
        IS(fiber_create(NULL, NULL, on_sem, NULL), 0);
    attr.name = "last";
    IS(fiber_create(&f, &attr, on_sem, NULL), 0);
    IS(fiber_join(f, NULL), 0);
    return NULL;
}

static void *post(void *arg)
{
    (void)arg;
    usleep(100000); /* until the fiber has very likely parked; correct either way */
    fiber_sem_post(&sem);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    IS(fiber_sem_init(&sem, 0, 0), 0);
    if (argc > 1 && !strcmp(argv[1], "post")) {
        IS(pthread_create(&thread, NULL, post, NULL), 0);
        return fiber_run(NULL, on_sem, NULL, NULL);
    }
    return fiber_run(NULL, all, argc > 1 ? &sem : NULL, NULL);
}
