/* SPDX-License-Identifier: MIT */
/* cxx_host - a scheduler other than libfiber, on ucontext, whose fibers wait in C++ catch blocks
 * and look up names.
 *
 * usage: host LIBRARY. LIBRARY is built from late.cc and opened with dlopen. Exits with 77 if the
 * shim is not preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "aioshim.h"

enum { FIBERS = 8, STACK = 256 * 1024 };

struct fiber {
    ucontext_t context;
    int number;
    int done;
    int pipe[2];
    char stack[STACK];
};

static struct host {
    ucontext_t scheduler;
    struct fiber *current;
    struct fiber *queue[FIBERS];
    unsigned head, count;
    aioshim_thread_t *shim;
} host;

static struct fiber fibers[FIBERS];
static int wrong;
static long (*catch_and_wait)(long number, void (*wait)(void *), void *arg);

static void *running(void *data) { return ((struct host *)data)->current; }

static unsigned runnable(void *data) { return ((struct host *)data)->count; }

static void unpark(void *data, void *fiber)
{
    struct host *h = data;
    h->queue[(h->head + h->count++) % FIBERS] = fiber;
}

static void park(void *data)
{
    struct host *h = data;
    struct fiber *self = h->current;
    swapcontext(&self->context, &h->scheduler);
}

static void wake(void *data)
{
    void (*shim_wake)(aioshim_thread_t *) =
        (void (*)(aioshim_thread_t *))dlsym(RTLD_DEFAULT, "aioshim_wake");
    shim_wake(((struct host *)data)->shim);
}

static const aioshim_host_t table = { sizeof table, running, park, unpark, runnable, wake,
                                      NULL,         NULL,    NULL, NULL,   0,        0 };

/* Writes to the fiber before this one in the ring, and waits until the fiber behind it has written.
 */
static void meet_neighbour(void *arg)
{
    struct fiber *self = arg;
    char c = 'x';
    if (write(fibers[(self->number + FIBERS - 1) % FIBERS].pipe[1], &c, 1) != 1 ||
        read(self->pipe[0], &c, 1) != 1)
        abort();
}

static void work(unsigned number)
{
    static const char *const users[] = { "root", "daemon" };
    struct fiber *self = &fibers[number];
    for (int turn = 0; turn < 4; turn++) {
        long thrown = self->number * 100 + turn;
        if (catch_and_wait(thrown, meet_neighbour, self) != thrown)
            wrong++;
        const char *name = users[number % 2];
        struct passwd *user = getpwnam(name);
        meet_neighbour(self);
        if (user && strcmp(user->pw_name, name))
            wrong++;
    }
    self->done = 1;
}

int main(int argc, char **argv)
{
    int (*attach)(const aioshim_host_t *, void *, aioshim_thread_t **) =
        (int (*)(const aioshim_host_t *, void *, aioshim_thread_t **))dlsym(RTLD_DEFAULT,
                                                                            "aioshim_attach");
    int (*poll)(aioshim_thread_t *, int64_t) =
        (int (*)(aioshim_thread_t *, int64_t))dlsym(RTLD_DEFAULT, "aioshim_poll");
    if (argc != 2 || !attach || attach(&table, &host, &host.shim) != 0)
        return 77;
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "host: %s\n", dlerror());
        return 1;
    }
    catch_and_wait = (long (*)(long, void (*)(void *), void *))dlsym(library, "catch_and_wait");
    for (int i = 0; i < FIBERS; i++) {
        fibers[i].number = i;
        if (pipe(fibers[i].pipe))
            abort();
        getcontext(&fibers[i].context);
        fibers[i].context.uc_stack.ss_sp = fibers[i].stack;
        fibers[i].context.uc_stack.ss_size = STACK;
        fibers[i].context.uc_link = &host.scheduler;
        makecontext(&fibers[i].context, (void (*)(void))work, 1, (unsigned)i);
        unpark(&host, &fibers[i]);
    }
    for (int left = FIBERS; left > 0;) {
        for (unsigned round = host.count; round > 0; round--) {
            struct fiber *next = host.queue[host.head];
            host.head = (host.head + 1) % FIBERS;
            host.count--;
            host.current = next;
            swapcontext(&host.scheduler, &next->context);
            host.current = NULL;
            left -= next->done;
        }
        if (left > 0)
            poll(host.shim, host.count > 0 ? 0 : -1);
    }
    printf("wrong: %d\n", wrong);
    return wrong != 0;
}
