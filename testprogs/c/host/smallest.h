/* SPDX-License-Identifier: MIT */
/* smallest.h - a host with the five mandatory callbacks only. The file that includes this includes
 * a version of aioshim.h first, and calls run_smallest with a table.
 *
 * Two fibers wait for each other through pipes, sleep, and lock a mutex that a thread holds. None
 * of this ends unless the shim parks them. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { FIBERS = 2, ROUNDS = 100, STACK = 256 * 1024 };

static struct host {
    ucontext_t scheduler, contexts[FIBERS];
    int current; /* the number of the running fiber, or -1 */
    int queue[FIBERS];
    unsigned count, left;
    aioshim_thread_t *thread;
} host = { .current = -1 };

static char stacks[FIBERS][STACK];
static int pipes[FIBERS][2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what)
{
    fprintf(stderr, "smallest: %s\n", what);
    exit(1);
}

static void *function(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    if (!found)
        fail(name);
    return found;
}

/* A fiber is the address of its context. */
static void *running(void *data)
{
    struct host *h = data;
    return h->current < 0 ? NULL : &h->contexts[h->current];
}

static unsigned runnable(void *data) { return ((struct host *)data)->count; }

static void unpark(void *data, void *fiber)
{
    struct host *h = data;
    h->queue[h->count++] = (int)((ucontext_t *)fiber - h->contexts);
}

static void park(void *data)
{
    struct host *h = data;
    swapcontext(&h->contexts[h->current], &h->scheduler);
}

static void wake(void *data)
{
    ((void (*)(aioshim_thread_t *))function("aioshim_wake"))(((struct host *)data)->thread);
}

static void *unlock_later(void *arg)
{
    pthread_mutex_lock(&mutex);
    (void)!write(pipes[0][1], "x", 1);
    nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void work(int number)
{
    char byte;
    for (int i = 0; i < ROUNDS; i++) {
        if (number == 1 && write(pipes[0][1], "x", 1) != 1)
            fail("write");
        if (read(pipes[number][0], &byte, 1) != 1)
            fail("read");
        if (number == 0 && write(pipes[1][1], "x", 1) != 1)
            fail("write");
    }
    nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    pthread_t thread;
    if (number == 0) {
        pthread_create(&thread, NULL, unlock_later, NULL);
        if (read(pipes[0][0], &byte, 1) != 1)
            fail("read");
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        pthread_join(thread, NULL);
    }
    host.left--;
}

static int run_smallest(const aioshim_host_t *table)
{
    int (*attach)(const aioshim_host_t *, void *, aioshim_thread_t **) =
        (int (*)(const aioshim_host_t *, void *, aioshim_thread_t **))function("aioshim_attach");
    int (*poll)(aioshim_thread_t *, int64_t) =
        (int (*)(aioshim_thread_t *, int64_t))function("aioshim_poll");
    int (*detach)(aioshim_thread_t *) = (int (*)(aioshim_thread_t *))function("aioshim_detach");
    if (attach(table, &host, &host.thread) != 0)
        fail("aioshim_attach");
    for (int i = 0; i < FIBERS; i++) {
        if (pipe(pipes[i]) != 0)
            fail("pipe");
        getcontext(&host.contexts[i]);
        host.contexts[i].uc_stack.ss_sp = stacks[i];
        host.contexts[i].uc_stack.ss_size = STACK;
        host.contexts[i].uc_link = &host.scheduler;
        makecontext(&host.contexts[i], (void (*)(void))work, 1, i);
        unpark(&host, &host.contexts[i]);
        host.left++;
    }
    while (host.left > 0) {
        while (host.count > 0) {
            host.current = host.queue[0];
            host.queue[0] = host.queue[--host.count];
            swapcontext(&host.scheduler, &host.contexts[host.current]);
            host.current = -1;
        }
        if (host.left > 0)
            poll(host.thread, -1);
    }
    if (detach(host.thread) != 0)
        fail("aioshim_detach");
    puts("done");
    return 0;
}
