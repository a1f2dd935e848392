/* SPDX-License-Identifier: MIT */
/* locks.c - nanoseconds for one lock and unlock that nobody contends for, in rounds asked for over a pipe (bench.h). */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t mutex;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem;

static double mutexes(uint64_t calls)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < calls; i++) {
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
    }
    return (double)(now_ns() - start) / (double)calls;
}

static double rwlocks(uint64_t calls)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < calls; i++) {
        pthread_rwlock_rdlock(&rwlock);
        pthread_rwlock_unlock(&rwlock);
    }
    return (double)(now_ns() - start) / (double)calls;
}

static double semaphores(uint64_t calls)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < calls; i++) {
        sem_post(&sem);
        sem_wait(&sem);
    }
    return (double)(now_ns() - start) / (double)calls;
}

static void *nothing(void *arg)
{
    return arg;
}

/* locks normal|recursive|rwlock|sem thread|fiber one|many */
int main(int argc, char **argv)
{
    if (argc != 4)
        die(0, "locks normal|recursive|rwlock|sem thread|fiber one|many");
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, *argv[1] == 'r' && argv[1][1] == 'e' ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL);
    pthread_mutex_init(&mutex, &attr);
    sem_init(&sem, 0, 0);
    /* In a process with one thread libc leaves atomic operations out. */
    pthread_t thread;
    if (!strcmp(argv[3], "many") && (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL)))
        die(0, "pthread_create");
    double (*round)(uint64_t) = !strcmp(argv[1], "rwlock") ? rwlocks : !strcmp(argv[1], "sem") ? semaphores : mutexes;
    if (!strcmp(argv[2], "fiber"))
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)round);
    else
        serve(round);
    return 0;
}
