/* SPDX-License-Identifier: MIT */
/* locks.c - nanoseconds for one uncontended lock and unlock, in rounds that are requested over a
 * pipe (bench.h). */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <semaphore.h>

static const char usage[] =
    "locks KIND thread|fiber one|many\n"
    "  KIND   normal recursive rwlock (to read) wrlock (to write) sem\n"
    "  many   another thread has existed\n"
    "then one number of pairs per line on standard input; prints nanoseconds per pair for each\n";

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

static double rwlocks_to_write(uint64_t calls)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < calls; i++) {
        pthread_rwlock_wrlock(&rwlock);
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

static const struct {
    const char *name;
    int type; /* of the mutex */
    double (*round)(uint64_t);
} kinds[] = {
    { "normal", PTHREAD_MUTEX_NORMAL, mutexes },
    { "recursive", PTHREAD_MUTEX_RECURSIVE, mutexes },
    { "rwlock", PTHREAD_MUTEX_NORMAL, rwlocks },
    { "wrlock", PTHREAD_MUTEX_NORMAL, rwlocks_to_write },
    { "sem", PTHREAD_MUTEX_NORMAL, semaphores },
};

static void *nothing(void *arg) { return arg; }

/* Returns 0 for the first word and 1 for the other; any third word ends the program with the usage.
 */
static int second(const char *word, const char *first, const char *other)
{
    if (!strcmp(word, other))
        return 1;
    if (strcmp(word, first))
        die(0, "%s", usage);
    return 0;
}

int main(int argc, char **argv)
{
    size_t kind = 0;
    while (argc == 4 && kind < sizeof kinds / sizeof *kinds && strcmp(argv[1], kinds[kind].name))
        kind++;
    if (argc != 4 || kind == sizeof kinds / sizeof *kinds)
        die(0, "%s", usage);
    int on_fiber = second(argv[2], "thread", "fiber");
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, kinds[kind].type);
    pthread_mutex_init(&mutex, &attr);
    sem_init(&sem, 0, 0);
    /* In a single-threaded process libc avoids atomic operations. */
    pthread_t thread;
    if (second(argv[3], "one", "many") &&
        (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL)))
        die(0, "pthread_create");
    if (on_fiber)
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)kinds[kind].round);
    else
        serve(kinds[kind].round);
    return 0;
}
