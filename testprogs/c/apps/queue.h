/* SPDX-License-Identifier: MIT */
/* queue.h - a bounded queue of pointers between tasks: put waits while it is full, take while it is
 * empty. */
#ifndef QUEUE_H
#define QUEUE_H

#include "task.h"

enum { QUEUE_SIZE = 64 };

struct queue {
    task_mutex_t mutex;
    task_cond_t not_empty, not_full;
    void *items[QUEUE_SIZE];
    unsigned head, count;
    int closed;
};

static inline void queue_init(struct queue *q)
{
    memset(q, 0, sizeof *q);
    task_mutex_init(&q->mutex);
    task_cond_init(&q->not_empty);
    task_cond_init(&q->not_full);
}

static inline void queue_put(struct queue *q, void *item)
{
    task_lock(&q->mutex);
    while (q->count == QUEUE_SIZE)
        task_wait(&q->not_full, &q->mutex);
    q->items[(q->head + q->count++) % QUEUE_SIZE] = item;
    task_signal(&q->not_empty);
    task_unlock(&q->mutex);
}

/* Closes the queue: nothing more will be put into it. */
static inline void queue_close(struct queue *q)
{
    task_lock(&q->mutex);
    q->closed = 1;
    task_broadcast(&q->not_empty);
    task_unlock(&q->mutex);
}

/* Returns NULL when the queue is closed and empty. */
static inline void *queue_take(struct queue *q)
{
    void *item = NULL;
    task_lock(&q->mutex);
    while (q->count == 0 && !q->closed)
        task_wait(&q->not_empty, &q->mutex);
    if (q->count > 0) {
        item = q->items[q->head];
        q->head = (q->head + 1) % QUEUE_SIZE;
        q->count--;
        task_signal(&q->not_full);
    }
    task_unlock(&q->mutex);
    return item;
}

#endif
