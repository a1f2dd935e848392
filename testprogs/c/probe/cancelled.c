/* SPDX-License-Identifier: MIT */
/* cancelled.c - fibers, one after the other, are cancelled in a wait for a message that never comes. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/ipc.h>
#include <sys/msg.h>

enum { TIMES = 100 };

static int queue, begun;

static void *receive(void *arg)
{
    struct { long kind; char text[8]; } message;
    begun++;
    msgrcv(queue, &message, sizeof message.text, 0, 0);
    return arg;
}

static void probe(void)
{
    queue = msgget(IPC_PRIVATE, 0600);
    if (queue < 0)
        die("msgget");
    int cancelled = 0;
    for (int i = 0; i < TIMES; i++) {
        task_t task = task_spawn(receive, NULL);
        while (begun == i)
            task_yield();
        check(fiber_cancel(task.fiber), "fiber_cancel");
        void *result;
        check(fiber_join(task.fiber, &result), "fiber_join");
        cancelled += result == FIBER_CANCELED;
    }
    msgctl(queue, IPC_RMID, NULL);
    printf("cancelled: %d\n", cancelled);
}
