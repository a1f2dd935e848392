/* SPDX-License-Identifier: MIT */
/* deadlocks.c - fibers that wait for locks of pthreads which nobody releases, or which something
 * other than a fiber releases later.
 *
 * usage: deadlocks WORKERS MODE
 *   mutexes    two fibers wait for each other's mutex; all others wait, too
 *   thread     a plain thread unlocks the mutex
 *   process    another process unlocks the mutex
 *   handler    a signal handler posts the semaphore
 *   timeout    the wait has a time limit */
#define _GNU_SOURCE
#include <errno.h>
#include <fiber.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutexes[2] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER };
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t *shared;
static sem_t semaphore;
static const char *mode;

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "deadlocks: %s\n", what);
        _exit(1);
    }
}

/* Longer than libfiber waits before it checks for a deadlock; correct however long it takes. */
static void pause_for_a_while(void) { nanosleep(&(struct timespec){ 0, 150000000 }, NULL); }

static fiber_barrier_t both;

static void *lock_each_other(void *number)
{
    int first = number != NULL;
    pthread_mutex_lock(&mutexes[first]);
    fiber_barrier_wait(&both);
    pthread_mutex_lock(&mutexes[1 - first]);
    expect(0, "a locked mutex was locked");
    return NULL;
}

static void *wait_for_ever(void *arg)
{
    pthread_mutex_lock(&own);
    pthread_cond_wait(&never, &own);
    return arg;
}

static void *lock_and_unlock(void *mutex)
{
    expect(pthread_mutex_lock(mutex) == 0 && pthread_mutex_unlock(mutex) == 0, "the mutex");
    return NULL;
}

static void *hold_in_thread(void *held)
{
    pthread_mutex_lock(&mutexes[0]);
    sem_post(held);
    pause_for_a_while();
    pthread_mutex_unlock(&mutexes[0]);
    /* The thread is still there while the fiber continues. */
    pause();
    return NULL;
}

/* The child of a fork holds the mutex for a while. */
static pid_t hold_in_child(void)
{
    int ends[2];
    char byte;
    expect(pipe(ends) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
        pthread_mutex_lock(shared);
        (void)!write(ends[1], "x", 1);
        pause_for_a_while();
        pthread_mutex_unlock(shared);
        _exit(0);
    }
    expect(child > 0 && read(ends[0], &byte, 1) == 1, "the child");
    return child;
}

static void post(int signal)
{
    (void)signal;
    sem_post(&semaphore);
}

static void *wait_for_post(void *arg)
{
    while (sem_wait(&semaphore))
        expect(errno == EINTR, "sem_wait");
    return arg;
}

static void *wait_with_limit(void *arg)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += 150000000;
    limit.tv_sec += limit.tv_nsec / 1000000000;
    limit.tv_nsec %= 1000000000;
    pthread_mutex_lock(&own);
    expect(pthread_cond_timedwait(&never, &own, &limit) == ETIMEDOUT, "no timeout");
    pthread_mutex_unlock(&own);
    return arg;
}

static void *all(void *arg)
{
    fiber_t *fibers[3];
    int count = 0;
    if (strcmp(mode, "mutexes") == 0) {
        fiber_barrier_init(&both, NULL, 2);
        fiber_create(&fibers[count++], NULL, lock_each_other, NULL);
        fiber_create(&fibers[count++], NULL, lock_each_other, "second");
        fiber_create(&fibers[count++], NULL, wait_for_ever, NULL);
    } else if (strcmp(mode, "handler") == 0) {
        struct itimerval soon = { { 0, 0 }, { 0, 150000 } };
        fiber_create(&fibers[count++], NULL, wait_for_post, NULL);
        setitimer(ITIMER_REAL, &soon, NULL);
    } else if (strcmp(mode, "timeout") == 0) {
        fiber_create(&fibers[count++], NULL, wait_with_limit, NULL);
    } else {
        void *mutex = shared ? shared : &mutexes[0];
        fiber_create(&fibers[count++], NULL, lock_and_unlock, mutex);
        fiber_create(&fibers[count++], NULL, lock_and_unlock, mutex);
    }
    for (int i = 0; i < count; i++)
        fiber_join(fibers[i], NULL);
    return arg;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    mode = argv[2];
    setenv("FIBER_WORKERS", argv[1], 1);
    pid_t child = 0;
    pthread_t thread;
    sem_init(&semaphore, 0, 0);
    if (strcmp(mode, "thread") == 0) {
        expect(pthread_create(&thread, NULL, hold_in_thread, &semaphore) == 0, "pthread_create");
        while (sem_wait(&semaphore))
            ;
    } else if (strcmp(mode, "process") == 0) {
        pthread_mutexattr_t attributes;
        shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        expect(shared != MAP_FAILED, "mmap");
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutex_init(shared, &attributes);
        child = hold_in_child();
    } else if (strcmp(mode, "handler") == 0) {
        struct sigaction action = { .sa_handler = post };
        sigaction(SIGALRM, &action, NULL);
    }
    expect(fiber_run(NULL, all, NULL, NULL) == 0, "fiber_run");
    if (child)
        waitpid(child, NULL, 0);
    puts("done");
    return 0;
}
