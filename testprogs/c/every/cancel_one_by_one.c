/* SPDX-License-Identifier: MIT */
/* cancel_one_by_one.c - cancels fibers, one after the other, in a wait for a message that never
 * arrives; and one fiber in a loop over a semaphore for which it never waits. */
#define _GNU_SOURCE
#include "probe.h"

#include <sched.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/msg.h>

enum { TIMES = 100 };

static int queue, begun;

static void *receive(void *arg)
{
    struct {
        long kind;
        char text[8];
    } message;
    begun++;
    msgrcv(queue, &message, sizeof message.text, 0, 0);
    return arg;
}

static void *loop(void *arg)
{
    sem_t *sem = arg;
    for (;;) {
        sem_wait(sem);
        sem_post(sem);
        /* This is no cancellation point, but it lets the cancelling fiber run; a free semaphore
         * does not. */
        sched_yield();
    }
    return NULL;
}

static int is_cancelled(task_t task)
{
    void *result;
    check(fiber_cancel(task.fiber), "fiber_cancel");
    check(fiber_join(task.fiber, &result), "fiber_join");
    return result == FIBER_CANCELED;
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
        cancelled += is_cancelled(task);
    }
    msgctl(queue, IPC_RMID, NULL);
    printf("cancelled: %d\n", cancelled);
    sem_t sem;
    sem_init(&sem, 0, 1);
    task_t task = task_spawn(loop, &sem);
    for (int i = 0; i < 4; i++)
        task_yield();
    printf("in a loop: %d\n", is_cancelled(task));
    sem_destroy(&sem);
}
