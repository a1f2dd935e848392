/* SPDX-License-Identifier: MIT */
/* minihost - the smallest green-thread scheduler that attaches to libaioshim.so: ucontext, one
 * thread, one queue.
 *
 * 16 fibers each read their part of a file with plain pread. Prints the sum of all bytes, and the
 * number of polls of the shim. Also runs correctly without the preload: then nothing is attached
 * and every pread blocks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "aioshim.h"

enum { FIBERS = 16, STACK = 64 * 1024, BLOCK = 4096 };

struct fiber {
    ucontext_t context;
    int number;
    int done;
    uint64_t sum;
    char stack[STACK];
};

static struct host {
    ucontext_t scheduler;
    struct fiber *current;
    struct fiber *queue[FIBERS]; /* runnable, a ring */
    unsigned head, count;
    aioshim_thread_t *shim; /* NULL: not preloaded */
} host;

static struct fiber fibers[FIBERS];
static int file;
static off_t file_size;

/* The host's callbacks. */

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

static const aioshim_host_t table = {
    sizeof table, running, park, unpark, runnable, wake,
    NULL,         NULL,    NULL, NULL,   0,        AIOSHIM_HOST_FORKS | AIOSHIM_HOST_SLEEPS_IN_POLL
};

/* The work of the fibers: plain blocking reads. */

static void work(unsigned number)
{
    struct fiber *self = &fibers[number];
    char buffer[BLOCK];
    for (off_t at = (off_t)self->number * BLOCK; at < file_size; at += FIBERS * BLOCK) {
        ssize_t n = pread(file, buffer, sizeof buffer, at);
        if (n < 0) {
            perror("minihost: pread");
            exit(1);
        }
        for (ssize_t i = 0; i < n; i++)
            self->sum += (unsigned char)buffer[i];
    }
    self->done = 1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: minihost FILE\n");
        return 1;
    }
    file = open(argv[1], O_RDONLY);
    if (file < 0) {
        perror(argv[1]);
        return 1;
    }
    file_size = lseek(file, 0, SEEK_END);

    int (*attach)(const aioshim_host_t *, void *, aioshim_thread_t **) =
        (int (*)(const aioshim_host_t *, void *, aioshim_thread_t **))dlsym(RTLD_DEFAULT,
                                                                            "aioshim_attach");
    int (*poll)(aioshim_thread_t *, int64_t) =
        (int (*)(aioshim_thread_t *, int64_t))dlsym(RTLD_DEFAULT, "aioshim_poll");
    int (*detach)(aioshim_thread_t *) =
        (int (*)(aioshim_thread_t *))dlsym(RTLD_DEFAULT, "aioshim_detach");
    if (attach && attach(&table, &host, &host.shim) != 0)
        host.shim = NULL;

    for (int i = 0; i < FIBERS; i++) {
        fibers[i].number = i;
        getcontext(&fibers[i].context);
        fibers[i].context.uc_stack.ss_sp = fibers[i].stack;
        fibers[i].context.uc_stack.ss_size = STACK;
        fibers[i].context.uc_link = &host.scheduler;
        makecontext(&fibers[i].context, (void (*)(void))work, 1, (unsigned)i);
        unpark(&host, &fibers[i]);
    }

    int left = FIBERS;
    unsigned long polls = 0;
    while (left > 0) {
        /* One round runs all fibers that are runnable now. */
        for (unsigned round = host.count; round > 0; round--) {
            struct fiber *next = host.queue[host.head];
            host.head = (host.head + 1) % FIBERS;
            host.count--;
            host.current = next;
            swapcontext(&host.scheduler, &next->context);
            host.current = NULL;
            left -= next->done;
        }
        if (host.shim && left > 0) {
            poll(host.shim, host.count > 0 ? 0 : -1);
            polls++;
        }
    }
    if (host.shim && detach(host.shim) != 0) {
        fprintf(stderr, "minihost: detach failed\n");
        return 1;
    }

    uint64_t sum = 0;
    for (int i = 0; i < FIBERS; i++)
        sum += fibers[i].sum;
    printf("%llu\n", (unsigned long long)sum);
    fprintf(stderr, "minihost: %s, %lu polls\n", host.shim ? "attached" : "not attached", polls);
    return 0;
}
