/* SPDX-License-Identifier: MIT */
/* cancel_queued.c - several fibers make the same call on one FIFO, terminal or listening socket.
 * Not only the first one but also those that queue behind it end early when they are cancelled,
 * when a handler runs, or when their timeout expires. */
#define _GNU_SOURCE
#include <pty.h>
#include <signal.h>
#include <sys/time.h>

#include "blocking_task.h"

static int file, begun;

static void *read_one(void *arg)
{
    char byte;
    begun++;
    return read(file, &byte, 1) == 1 ? NULL : arg;
}

static void *write_much(void *arg)
{
    static char much[1 << 20];
    begun++;
    return write(file, much, sizeof much) == sizeof much ? NULL : arg;
}

static void *accept_one(void *arg)
{
    begun++;
    return accept(file, NULL, NULL) >= 0 ? NULL : arg;
}

static int cancel(task_t task)
{
    void *result;
    check(fiber_cancel(task.fiber), "fiber_cancel");
    check(fiber_join(task.fiber, &result), "fiber_join");
    return result == FIBER_CANCELED;
}

/* Cancels the last of three, then the one in the middle, then the first. */
static void from_behind(void *(*wait)(void *), const char *what)
{
    task_t tasks[3];
    int cancelled = 0;
    begun = 0;
    for (int i = 0; i < 3; i++) {
        tasks[i] = task_spawn(wait, &file);
        while (begun == i)
            task_yield();
    }
    for (int i = 3; i-- > 0;)
        cancelled += cancel(tasks[i]);
    printf("%s: %d cancelled\n", what, cancelled);
}

static void handler(int signal) { (void)signal; }

static volatile int over;

/* Signals arrive until both are interrupted. */
static void *send_signals(void *unused)
{
    sigset_t all;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, NULL))
        die("pthread_sigmask");
    while (!over) {
        kill(getpid(), SIGUSR1);
        usleep(1000);
    }
    return unused;
}

/* A signal ends the call of either one of them; the other one continues to wait. */
static void interrupted(void)
{
    struct sigaction action = { .sa_handler = handler };
    pthread_t sender;
    task_t tasks[2];
    if (sigaction(SIGUSR1, &action, NULL))
        die("sigaction");
    begun = 0;
    for (int i = 0; i < 2; i++) {
        tasks[i] = task_spawn(read_one, &file);
        while (begun == i)
            task_yield();
    }
    check(pthread_create(&sender, NULL, send_signals, NULL), "pthread_create");
    int ended = task_join(tasks[1]) == &file;
    ended += task_join(tasks[0]) == &file;
    over = 1;
    check(pthread_join(sender, NULL), "pthread_join");
    printf("interrupted: %d\n", ended);
}

static void probe(void)
{
    int ends[2];
    struct sockaddr_in address;
    struct timeval limit = { 0, 20000 };
    if (mkfifo("fifo", 0600) || (file = open("fifo", O_RDWR | O_CLOEXEC)) < 0)
        die("fifo");
    from_behind(read_one, "readers of a FIFO");
    from_behind(write_much, "writers of a FIFO");
    close(file);
    if (openpty(&ends[0], &file, NULL, NULL, NULL))
        die("openpty");
    from_behind(read_one, "readers of a terminal");
    interrupted();
    close(file);
    close(ends[0]);
    file = bound(SOCK_STREAM, &address);
    if (listen(file, 1))
        die("listen");
    from_behind(accept_one, "accept");
    task_t first = task_spawn(accept_one, &file);
    if (setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit))
        die("setsockopt");
    task_t second = task_spawn(accept_one, &file), third = task_spawn(accept_one, &file);
    int late = task_join(second) == &file;
    late += task_join(third) == &file;
    printf("accept, out of time: %d\n", late);
    cancel(first);
    close(file);
}
