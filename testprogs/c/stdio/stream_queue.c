/* SPDX-License-Identifier: MIT */
/* stream_queue.c - a task that had to queue for a stream continues like any other: it lets others
 * run when it retries in a loop, and signal handlers run in it. */
#define _GNU_SOURCE
#include "probe.h"

#include <pthread.h>
#include <signal.h>

enum { MUCH = 64 << 10 };

static FILE *stream;
static int ends[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int writing, waiting, trying;
static volatile sig_atomic_t handled;
static int in_time;
static size_t drained;

static void handle(int signal)
{
    (void)signal;
    handled++;
}

static void *holds(void *arg)
{
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    while (!trying)
        task_yield();
    for (int i = 0; i < 5; i++)
        task_yield();
    check(pthread_mutex_unlock(&mutex), "pthread_mutex_unlock");
    return arg;
}

static void *writes_much(void *arg)
{
    char *data = allocate(MUCH);
    memset(data, '.', MUCH);
    writing = 1;
    if (fwrite(data, 1, MUCH, stream) != MUCH || fflush(stream))
        die("fwrite");
    free(data);
    return arg;
}

static void *takes_its_turn(void *arg)
{
    while (!writing)
        task_yield();
    for (int i = 0; i < 5; i++)
        task_yield();
    waiting = 1;
    if (fputs("a line\n", stream) < 0 || fflush(stream))
        die("fputs");
    trying = 1;
    while (pthread_mutex_trylock(&mutex))
        continue;
    check(pthread_mutex_unlock(&mutex), "pthread_mutex_unlock");
    signal(SIGUSR1, handle);
    if (raise(SIGUSR1))
        die("raise");
    in_time = handled;
    return arg;
}

static void *drains(void *arg)
{
    char data[4096];
    while (!waiting)
        task_yield();
    while (drained < MUCH + 7) {
        ssize_t got = read(ends[0], data, sizeof data);
        if (got <= 0)
            die("read");
        drained += (size_t)got;
    }
    return arg;
}

static void probe(void)
{
    if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0)
        die("pipe2");
    stream = fdopen(ends[1], "w");
    task_t drain = task_spawn(drains, NULL);
    task_t hold = task_spawn(holds, NULL);
    task_t much = task_spawn(writes_much, NULL);
    task_t turn = task_spawn(takes_its_turn, NULL);
    task_join(drain);
    task_join(much);
    task_join(turn);
    task_join(hold);
    printf("%zu bytes, handled in time: %d\n", drained, in_time);
    fclose(stream);
    close(ends[0]);
}
