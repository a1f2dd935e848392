/* SPDX-License-Identifier: MIT */
/* fork_from_threads.c - fork, _Fork, vfork and posix_spawn while other threads are in the middle of
 * arbitrary work: every child works. */
#define _GNU_SOURCE
#include "probe.h"

#include <poll.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

extern char **environ;

enum { OF_EACH = 24, POLLERS = 200, FORKERS = 3, FORKS = 40 };

static atomic_int stop;
static atomic_int failed;
static int quiet[2];
static int shared_file;
static FILE *shared_stream;
static fiber_key_t fiber_key;
static pthread_key_t thread_key;
static task_mutex_t contended;
static pthread_mutex_t counted;

static void *poll_two(void *arg)
{
    while (!stop) {
        struct pollfd both[2] = { { quiet[0], POLLIN, 0 }, { quiet[1], POLLPRI, 0 } };
        poll(both, 2, 1);
    }
    return arg;
}

static void *read_at_position(void *arg)
{
    char buf[64];
    while (!stop) {
        if (read(shared_file, buf, sizeof buf) == 0)
            lseek(shared_file, 0, SEEK_SET);
        task_yield();
    }
    return arg;
}

static void *print(void *arg)
{
    while (!stop) {
        fprintf(shared_stream, "%p and more of it\n", arg);
        fflush(shared_stream);
        task_yield();
    }
    return arg;
}

static void *keep_value(void *arg)
{
    if (task_options.threads)
        pthread_setspecific(thread_key, arg);
    else
        fiber_setspecific(fiber_key, arg);
    return arg;
}

static void *come_and_go(void *arg)
{
    while (!stop)
        task_join(task_spawn(keep_value, arg));
    return arg;
}

static void *contend(void *arg)
{
    while (!stop) {
        task_lock(&contended);
        task_yield();
        task_unlock(&contended);
        check(pthread_mutex_lock(&counted), "lock");
        check(pthread_mutex_unlock(&counted), "unlock");
    }
    return arg;
}

static void *say_one(void *arg)
{
    if (write(((int *)arg)[1], "1", 1) != 1)
        _exit(10);
    return NULL;
}

/* The work of a child: reads what another task writes, and prints. */
static void work(int has_tasks)
{
    int ends[2];
    char byte;
    alarm(30);
    if (pipe2(ends, O_CLOEXEC))
        _exit(11);
    if (has_tasks) {
        task_t one = task_spawn(say_one, ends);
        if (read(ends[0], &byte, 1) != 1)
            _exit(12);
        task_join(one);
    } else if (write(ends[1], "1", 1) != 1 || read(ends[0], &byte, 1) != 1) {
        _exit(13);
    }
    FILE *own = fopen("/dev/null", "w");
    if (!own || fprintf(own, "%d\n", 1) != 2 || fclose(own))
        _exit(14);
    _exit(0);
}

static void wait_for(pid_t child, const char *how)
{
    int status;
    if (child < 0)
        die("%s", how);
    while (waitpid(child, &status, 0) != child)
        if (errno != EINTR)
            die("waitpid");
    if (status) {
        failed++;
        fprintf(stderr, "a child of %s ended with %#x\n", how, (unsigned)status);
    }
}

static void *fork_often(void *arg)
{
    char *const words[] = { "true", NULL };
    for (volatile int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0)
            work(1);
        wait_for(child, "fork");
        if (_Fork && i % 8 == 0) {
            child = _Fork();
            if (child == 0) {
                /* close is one of the calls that are allowed here. */
                for (int fd = 3; fd < 40; fd++)
                    close(fd);
                _exit(0);
            }
            wait_for(child, "_Fork");
        }
        if (i % 16 == 0) {
            check(posix_spawnp(&child, "true", NULL, NULL, words, environ), "posix_spawnp");
            wait_for(child, "posix_spawnp");
            child = vfork();
            if (child == 0)
                _exit(0);
            wait_for(child, "vfork");
        }
    }
    return arg;
}

/* Runs on a thread without fibers. */
static void *fork_on_thread(void *arg)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0)
            work(0);
        wait_for(child, "fork on a thread");
    }
    return arg;
}

static void probe(void)
{
    static void *(*const KINDS[])(void *) = { read_at_position, print, come_and_go, contend };
    enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };
    task_t busy[POLLERS + KIND_COUNT * OF_EACH], forkers[FORKERS];
    pthread_t thread;
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutexattr_setrobust(&recursive, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&counted, &recursive);
    task_mutex_init(&contended);
    if (!task_options.threads)
        check(fiber_key_create(&fiber_key, NULL), "fiber_key_create");
    check(pthread_key_create(&thread_key, NULL), "pthread_key_create");
    make_file("file", 1000);
    shared_file = open("file", O_RDONLY | O_CLOEXEC);
    shared_stream = fopen("/dev/null", "we");
    if (shared_file < 0 || !shared_stream || pipe2(quiet, O_CLOEXEC))
        die("setting up");
    unsigned n = 0;
    for (; n < POLLERS; n++)
        busy[n] = task_spawn(poll_two, NULL);
    for (unsigned kind = 0; kind < KIND_COUNT; kind++)
        for (unsigned i = 0; i < OF_EACH; i++, n++)
            busy[n] = task_spawn(KINDS[kind], &busy[n]);
    for (int i = 0; i < FORKERS; i++)
        forkers[i] = task_spawn(fork_often, NULL);
    check(pthread_create(&thread, NULL, fork_on_thread, NULL), "pthread_create");
    for (int i = 0; i < FORKERS; i++)
        task_join(forkers[i]);
    check(pthread_join(thread, NULL), "pthread_join");
    stop = 1;
    for (unsigned i = 0; i < n; i++)
        task_join(busy[i]);
    printf("failed: %d\n", failed);
}
