/* SPDX-License-Identifier: MIT */
/* fork on a fiber: the child continues with that fiber alone, and can use fibers as before. */
#include "expect.h"
#include <sys/wait.h>

static fiber_mutex_t mutex = FIBER_MUTEX_INITIALIZER;
static fiber_sem_t never, queued;
static fiber_t *other;
static pid_t parent;
static int alive_in_child;

static void *wait_for_mutex(void *arg)
{
    IS(fiber_sem_post(&queued), 0);
    IS(fiber_mutex_lock(&mutex), 0);
    CHECK(getpid() == parent); /* this fiber must not run in the child */
    IS(fiber_mutex_unlock(&mutex), 0);
    return arg;
}

static void *sleep_on(void *arg)
{
    IS(fiber_sem_wait(&never), 0);
    CHECK(getpid() == parent);
    return arg;
}

static void *count(void *arg)
{
    fiber_yield();
    return (char *)arg + 1;
}

static void *forker(void *arg)
{
    fiber_t *waiter, *f;
    void *ret;
    int status;

    IS(fiber_create(&other, NULL, sleep_on, NULL), 0);
    IS(fiber_mutex_lock(&mutex), 0);
    IS(fiber_create(&waiter, NULL, wait_for_mutex, NULL), 0);
    IS(fiber_sem_wait(&queued), 0);
    for (int i = 0; i < 10; i++)
        fiber_yield(); /* until the waiter is most likely in the queue; correct either way */
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alive_in_child = 1;
        CHECK(fiber_self() != NULL);
        IS(fiber_join(other, NULL), ESRCH);
        IS(fiber_mutex_unlock(&mutex), 0);
        IS(fiber_mutex_trylock(&mutex), 0); /* it was not handed to a fiber of the parent */
        IS(fiber_mutex_unlock(&mutex), 0);
        for (int i = 0; i < 100; i++) {
            IS(fiber_create(&f, NULL, count, (void *)(intptr_t)i), 0);
            IS(fiber_join(f, &ret), 0);
            IS((intptr_t)ret, i + 1);
        }
        IS(fiber_sleep(1000), 0);
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(fiber_sleep(1000) == 0 ? 3 : 4);
        IS(waitpid(grandchild, &status, 0), grandchild);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
        return arg; /* this is the child's last fiber: fiber_run returns here too */
    }
    IS(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    IS(fiber_mutex_unlock(&mutex), 0);
    IS(fiber_join(waiter, NULL), 0);
    IS(fiber_sem_post(&never), 0);
    IS(fiber_join(other, NULL), 0);
    return arg;
}

static int forked;
static void *fork_elsewhere(void *arg)
{
    fiber_t *f;
    void *ret;
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < 100; i++) {
            IS(fiber_create(&f, NULL, count, (void *)(intptr_t)i), 0);
            IS(fiber_join(f, &ret), 0);
            IS((intptr_t)ret, i + 1);
        }
        return arg; /* ends the process: fiber_run was called on another thread */
    }
    IS(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    __atomic_store_n(&forked, 1, __ATOMIC_RELEASE);
    return arg;
}

static void *block_here(void *arg)
{
    fiber_t *f;
    IS(fiber_create(&f, NULL, fork_elsewhere, NULL), 0);
    while (!__atomic_load_n(&forked, __ATOMIC_ACQUIRE))
        usleep(1000); /* blocks this worker until another one takes the fiber */
    IS(fiber_join(f, NULL), 0);
    return arg;
}

int main(void)
{
    void *ret = NULL;
    fiber_options_t two = FIBER_OPTIONS_INIT;
    two.workers = 2;
    IS(fiber_run(&two, block_here, NULL, NULL), 0);
    parent = getpid();
    IS(fiber_sem_init(&never, 0, 0), 0);
    IS(fiber_sem_init(&queued, 0, 0), 0);
    IS(fiber_run(NULL, forker, &ret, &ret), 0);
    CHECK(ret == &ret);
    return alive_in_child ? 5 : 0;
}
