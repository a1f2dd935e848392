/* SPDX-License-Identifier: MIT */
/* polling_park - a scheduler whose park calls aioshim_poll on the stack of the fiber, as that of an
 * event loop does. The shim must not make the fiber yield in there, even while a pool thread is in
 * the middle of sending it a message.
 *
 * A parent process traces the pool thread. After each of its instructions it waits until the
 * scheduler has polled, or is held up in a poll by the message that is not complete. */
#define _GNU_SOURCE
#define AIOSHIM_USE_VERSION 2
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "aioshim_host.h"

enum { SKIP = 77, HELD_UP_NS = 5000000 };

/* Shared by the two processes. */
static struct {
    _Atomic pid_t pool_thread;
    atomic_bool traced, done;
    atomic_ulong polls;
} * shared;

static void fail(const char *what)
{
    fprintf(stderr, "polling_park: %s\n", what);
    exit(1);
}

/* ---- The scheduler: one fiber, on the stack of its thread ------------------------------------ */

static struct {
    aioshim_thread_t *thread;
    void *current;
    int parked, unparked;
} host;

static aioshim_functions_t shim;

static void *running(void *data) { return (void)data, host.current; }

/* Calls of the fiber are worth converting. */
static unsigned runnable(void *data) { return (void)data, 1; }

static void unpark(void *data, void *fiber)
{
    (void)data, (void)fiber;
    host.unparked++;
}

static void park(void *data)
{
    (void)data;
    if (host.parked++)
        fail("a park within a park");
    while (!host.unparked) {
        shim.poll(host.thread, 0);
        shared->polls++;
    }
    host.unparked--;
    host.parked--;
}

static void yield(void *data)
{
    (void)data;
    if (host.parked)
        fail("a yield within a park");
}

static void wake(void *data) { (void)data, shim.wake(host.thread); }

static const aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .yield = yield,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL,
};

/* A pool thread always makes this call. */
static void call(void)
{
    host.current = &host;
    int result = shm_unlink("/aioshim-polling-park");
    host.current = NULL;
    if (result == 0 || errno != ENOENT)
        fail("shm_unlink");
}

/* The only other thread of the process; 0 if there is none. */
static pid_t find_pool_thread(void)
{
    DIR *tasks = opendir("/proc/self/task");
    pid_t found = 0, own = getpid();
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        pid_t id = atoi(task->d_name);
        if (id > 0 && id != own)
            found = id;
    }
    closedir(tasks);
    return found;
}

static int be_host(void)
{
    if (!aioshim_find(&shim) || shim.attach(&table, NULL, &host.thread))
        fail("aioshim_attach");
    call();
    pid_t thread = find_pool_thread();
    if (!thread)
        fail("no pool thread");
    shared->pool_thread = thread;
    while (!shared->traced)
        sched_yield();
    call();
    shared->done = true;
    if (shim.detach(host.thread))
        fail("aioshim_detach");
    puts("done");
    return 0;
}

/* ---- The tracer ----------------------------------------------------------------------------- */

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000 + time.tv_nsec;
}

static void let_it_poll(void)
{
    unsigned long polls = shared->polls;
    for (long end = now() + HELD_UP_NS; shared->polls == polls && !shared->done && now() < end;)
        sched_yield();
}

/* Ends with the status of the host. */
static int trace(pid_t process)
{
    int status;
    pid_t thread;
    while (!(thread = shared->pool_thread))
        if (waitpid(process, &status, WNOHANG) == process)
            return status;
    if (ptrace(PTRACE_SEIZE, thread, 0, 0) || ptrace(PTRACE_INTERRUPT, thread, 0, 0)) {
        fprintf(stderr, "ptrace: %s\n", strerror(errno));
        exit(SKIP);
    }
    if (waitpid(thread, &status, __WALL) != thread)
        fail("waitpid");
    shared->traced = true;
    for (;;) {
        /* If it has ended meanwhile, it must be waited for as well. */
        ptrace(shared->done ? PTRACE_DETACH : PTRACE_SINGLESTEP, thread, 0, 0);
        pid_t changed = waitpid(-1, &status, __WALL);
        if (changed < 0)
            fail("waitpid");
        if (changed == process && !WIFSTOPPED(status))
            return status;
        let_it_poll();
    }
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("mmap");
    pid_t process = fork();
    if (process < 0)
        fail("fork");
    if (process == 0)
        return be_host();
    int status = trace(process);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
