/* SPDX-License-Identifier: MIT */
/* with_thread.c - a plain thread and tasks communicate through pipes: the thread blocks as usual,
 * and the tasks park. */
#define _GNU_SOURCE
#include "probe.h"

enum { QUESTIONS = 50 };

struct message {
    uint32_t task, number;
    uint64_t answer;
};

static int to_thread[2], (*to_task)[2];

/* Answers each request on the pipe of the task that sent it. */
static void *answer(void *arg)
{
    struct message m;
    while (read_full(to_thread[0], &m, sizeof m) == sizeof m) {
        m.answer = hash(HASH_START, &m, 8);
        write_full(to_task[m.task][1], &m, sizeof m);
    }
    return arg;
}

static void *ask(void *arg)
{
    struct message m = { .task = (uint32_t)((int(*)[2])arg - to_task) }, reply;
    for (m.number = 0; m.number < QUESTIONS; m.number++) {
        /* A message is smaller than PIPE_BUF, so it is written atomically. */
        write_full(to_thread[1], &m, sizeof m);
        if (read_full(to_task[m.task][0], &reply, sizeof reply) != sizeof reply)
            wrong("no answer");
        if (reply.number != m.number || reply.answer != hash(HASH_START, &m, 8))
            wrong("the answer to another question");
    }
    return NULL;
}

static void probe(void)
{
    unsigned n = task_options.tasks;
    pthread_t thread;
    to_task = allocate(n * sizeof *to_task);
    if (pipe2(to_thread, O_CLOEXEC))
        die("pipe2");
    for (unsigned i = 0; i < n; i++)
        if (pipe2(to_task[i], O_CLOEXEC))
            die("pipe2");
    check(pthread_create(&thread, NULL, answer, NULL), "pthread_create");
    task_each(ask, to_task, sizeof *to_task, n);
    if (close(to_thread[1]))
        die("close");
    check(pthread_join(thread, NULL), "pthread_join");
    puts("all answered");
    free(to_task);
}
