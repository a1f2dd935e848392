/* SPDX-License-Identifier: MIT */
/* last_signals.c - the program can use every signal, including the last ones, while tasks wait in
 * kernel calls that only a signal can end. */
#define _GNU_SOURCE
#include "probe.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/time.h>
#include <time.h>

enum { SIGNALS = 20 };

static int queue;
static volatile sig_atomic_t handled;

struct message {
    long kind;
    char text[8];
};

static void *receive(void *arg)
{
    struct message message;
    if (msgrcv(queue, &message, sizeof message.text, 0, 0) != sizeof message.text)
        die("msgrcv");
    return arg;
}

static void on_signal(int number) { handled += number > 0; }

/* Gives another thread that could take a signal the time to do so. */
static void pause_shortly(void)
{
    struct timespec time = { 0, 1000000 };
    nanosleep(&time, NULL);
}

/* The signal is blocked and taken with sigtimedwait: each queued one arrives, with its value. */
static void queued(int number, const char *name)
{
    sigset_t wanted;
    struct timespec limit = { 10, 0 };
    int good = 0;
    sigemptyset(&wanted);
    sigaddset(&wanted, number);
    for (int i = 0; i < SIGNALS; i++) {
        union sigval value = { .sival_int = i };
        siginfo_t info;
        if (sigqueue(getpid(), number, value))
            die("sigqueue");
        pause_shortly();
        good += sigtimedwait(&wanted, &info, &limit) == number && info.si_value.sival_int == i;
        if (good <= i)
            break;
    }
    printf("%s: %d of %d\n", name, good, SIGNALS);
}

/* ---- Together with pthread_cancel, which uses a signal that libc reserves ------------------- */

static int ends[2], locked[2];

static void *wait_for_ever(void *arg)
{
    char byte;
    if (read(ends[0], &byte, 1) >= 0)
        die("read");
    return arg;
}

static void cancel_one(void)
{
    pthread_t thread;
    void *result;
    check(pthread_create(&thread, NULL, wait_for_ever, NULL), "pthread_create");
    pause_shortly();
    check(pthread_cancel(thread), "pthread_cancel");
    check(pthread_join(thread, &result), "pthread_join");
    printf("cancelled: %d\n", result == PTHREAD_CANCELED);
}

/* A handler without SA_RESTART ends the wait for a lock that another descriptor holds. */
static void interrupt_one(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, never = { { 0, 0 }, { 0, 0 } };
    if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &every, NULL))
        die("setitimer");
    SHOW(flock(locked[1], LOCK_EX));
    if (setitimer(ITIMER_REAL, &never, NULL))
        die("setitimer");
}

static void beside_cancellation(void)
{
    for (int i = 0; i < 2; i++)
        locked[i] = open("locked", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (pipe2(ends, O_CLOEXEC) || locked[0] < 0 || locked[1] < 0 || flock(locked[0], LOCK_EX))
        die("setup");
    for (int i = 0; i < 3; i++) {
        interrupt_one();
        cancel_one();
    }
    interrupt_one();
}

static void probe(void)
{
    struct message message = { 1, "text" };
    struct sigaction action, ignore = { .sa_handler = SIG_IGN },
                             handle = { .sa_handler = on_signal };
    sigset_t pending;
    sigemptyset(&pending);
    sigaddset(&pending, SIGRTMIN);
    sigaddset(&pending, SIGRTMAX - 1);
    sigaddset(&pending, SIGRTMAX);
    /* Blocks them in the other task's thread, too, if it has its own. */
    if (pthread_sigmask(SIG_BLOCK, &pending, NULL))
        die("pthread_sigmask");
    queue = msgget(IPC_PRIVATE, 0600);
    if (queue < 0)
        die("msgget");
    task_t receiver = task_spawn(receive, NULL);
    for (int i = 0; i < 10; i++)
        task_yield();
    queued(SIGRTMAX, "the last");
    queued(SIGRTMAX - 1, "the one before");
    queued(SIGRTMIN, "the first");
    /* The signal is blocked in this thread, so it stays pending until it is taken. */
    SHOW(kill(getpid(), SIGRTMAX));
    pause_shortly();
    SHOW(sigpending(&pending));
    printf("pending: %d\n", sigismember(&pending, SIGRTMAX));
    SHOW(sigaction(SIGRTMAX, NULL, &action));
    printf("default: %d\n", action.sa_handler == SIG_DFL);
    SHOW(sigaction(SIGRTMAX, &ignore, NULL));
    SHOW(sigaction(SIGRTMAX, &handle, &action));
    printf("ignored: %d\n", action.sa_handler == SIG_IGN);
    SHOW(pthread_kill(pthread_self(), SIGRTMAX));
    sigemptyset(&pending);
    sigaddset(&pending, SIGRTMAX);
    SHOW(pthread_sigmask(SIG_UNBLOCK, &pending, NULL));
    printf("handled: %d\n", handled);
    SHOW(msgsnd(queue, &message, sizeof message.text, 0));
    task_join(receiver);
    SHOW(msgctl(queue, IPC_RMID, NULL));
    beside_cancellation();
}
