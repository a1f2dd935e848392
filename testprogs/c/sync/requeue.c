/* SPDX-License-Identifier: MIT */
/* requeue.c - a task and a plain thread wait for the same private futex, and are moved to another
 * one. Both can then be woken there, even if the task was woken at once. */
#define _GNU_SOURCE
#include "background_task.h"

#include <linux/futex.h>

/* The header of glibc 2.31 does not have it. */
enum { FUTEX_WAIT_NUMBER = 455, PRIVATE_U32 = 130, BOTH = 2 };
static uint32_t first, second;
static pid_t thread_id, task_id;
static task_sem_t about_to_wait;
static sem_t thread_about_to_wait;

static long wait_there(uint32_t *at)
{
    return syscall(FUTEX_WAIT_NUMBER, at, 0, ~0U, PRIVATE_U32, NULL, 0);
}

static void *wait_on_task(void *arg)
{
    task_id = (pid_t)syscall(SYS_gettid);
    task_sem_post(&about_to_wait);
    long result = wait_there(&first);
    return result ? NULL : arg;
}

static void *wait_on_thread(void *arg)
{
    thread_id = (pid_t)syscall(SYS_gettid);
    sem_post(&thread_about_to_wait);
    long result = wait_there(&first);
    return result ? NULL : arg;
}

/* Returns when the thread waits in the kernel. */
static void await_thread(void)
{
    char path[64], text[64];
    int number = -1;
    while (sem_wait(&thread_about_to_wait))
        ;
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)thread_id);
    while (number != FUTEX_WAIT_NUMBER) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        text[read_full(file, text, sizeof text - 1)] = '\0';
        close(file);
        sched_yield();
        if (sscanf(text, "%d", &number) != 1)
            number = -1;
    }
}

static void try(const char *name, int operation)
{
    pthread_t thread;
    void *of_thread;
    check(pthread_create(&thread, NULL, wait_on_thread, &first), "pthread_create");
    await_thread();
    task_t task = task_spawn(wait_on_task, &first);
    await_call(&about_to_wait, &task_id);
    printf("%s: %ld moved", name, syscall(SYS_futex, &first, operation, 0, BOTH, &second, 0));
    printf(", %ld left\n", syscall(SYS_futex, &first, FUTEX_WAKE_PRIVATE, BOTH, NULL, NULL, 0));
    syscall(SYS_futex, &second, FUTEX_WAKE_PRIVATE, BOTH, NULL, NULL, 0);
    void *of_task = task_join(task);
    check(pthread_join(thread, &of_thread), "pthread_join");
    printf("  woken: %d %d\n", of_task == &first, of_thread == &first);
}

static void probe(void)
{
    if (syscall(FUTEX_WAIT_NUMBER, &first, 1, ~0U, PRIVATE_U32, NULL, 0) < 0 && errno == ENOSYS) {
        fprintf(stderr, "no futex2 here\n");
        exit(EXIT_SKIP);
    }
    background_begin();
    task_sem_init(&about_to_wait, 0);
    sem_init(&thread_about_to_wait, 0, 0);
    try("requeue", FUTEX_REQUEUE_PRIVATE);
    try("compare and requeue", FUTEX_CMP_REQUEUE_PRIVATE);
    background_end();
}
