/* SPDX-License-Identifier: MIT */
/* sigwait.c - a task takes signals that are sent to its process or only to its thread, with
 * sigwait and related calls and from a signalfd, while another task waits for a stream. While there
 * is no signal, no thread wakes up. */
#define _GNU_SOURCE
#include "probe.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

enum { SIGNALS = 25 };

static int ends[2], descriptor;
static pthread_t taker;
static pid_t taker_id;
static volatile int taken, ready;
static sigset_t wanted;

static void pause_shortly(void)
{
    /* The call is not converted, because the thread runs no fiber. */
    struct timespec time = { 0, 500000 };
    nanosleep(&time, NULL);
}

static void *wait_for_stream(void *arg)
{
    char byte;
    if (read(ends[0], &byte, 1) != 1)
        die("read");
    return arg;
}

/* ---- Ways to take a signal ------------------------------------------------------------------ */

static int by_sigwait(void)
{
    int number = 0;
    errno = sigwait(&wanted, &number);
    return errno ? -1 : number;
}

static int by_sigwaitinfo(void)
{
    siginfo_t info;
    int number = sigwaitinfo(&wanted, &info);
    return number == info.si_signo ? number : -1;
}

static int by_sigtimedwait(void)
{
    struct timespec limit = { 20, 0 };
    return sigtimedwait(&wanted, NULL, &limit);
}

static int by_read(void)
{
    struct {
        uint32_t number;
        char rest[124];
    } info = { 0 };
    return read(descriptor, &info, sizeof info) == sizeof info ? (int)info.number : -1;
}

static int by_poll(void)
{
    struct pollfd polled[2] = { { .fd = descriptor, .events = POLLIN },
                                { .fd = ends[0], .events = POLLIN } };
    if (poll(polled, 2, 20000) != 1)
        return -1;
    return by_read();
}

static const struct {
    const char *name;
    int (*take)(void);
} WAYS[] = {
    { "sigwait", by_sigwait },           { "sigwaitinfo", by_sigwaitinfo },
    { "sigtimedwait", by_sigtimedwait }, { "read of a signalfd", by_read },
    { "poll of a signalfd", by_poll },
};

/* Sends one signal at a time, and the next one when it has been taken; to the thread alone, or to
 * the process. */
static void *send_all(void *arg)
{
    for (int i = 0; i < SIGNALS; i++) {
        for (int k = 0; taken < i && k < 20000; k++)
            pause_shortly();
        if (arg ? pthread_kill(taker, SIGUSR1) : kill(getpid(), SIGUSR1))
            die("kill");
        if (i % 3 == 0)
            pause_shortly();
    }
    return arg;
}

static void take_all(int alone, const char *name, int (*take)(void))
{
    pthread_t sender;
    int strangers = 0;
    taken = 0;
    check(pthread_create(&sender, NULL, send_all, alone ? ends : NULL), "pthread_create");
    while (taken < SIGNALS) {
        strangers += take() != SIGUSR1;
        taken++;
    }
    check(pthread_join(sender, NULL), "pthread_join");
    printf("%s, %s: %d strangers\n", name, alone ? "to the thread" : "to the process", strangers);
}

/* ---- Idle ----------------------------------------------------------------------------------- */

/* How often the taker's thread has gone to sleep; -1 while it runs. */
static long sleeps(void)
{
    char path[64], line[128];
    long count = -1;
    int asleep = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)taker_id);
    FILE *status = fopen(path, "re");
    if (!status)
        die("%s", path);
    while (fgets(line, sizeof line, status)) {
        asleep |= !strncmp(line, "State:\tS", 8);
        if (!strncmp(line, "voluntary_ctxt_switches:", 24))
            count = strtol(line + 24, NULL, 10);
    }
    fclose(status);
    return asleep ? count : -1;
}

static void *watch_idle(void *arg)
{
    long before, after;
    while (!ready)
        pause_shortly();
    /* Waits until the taker's thread has gone to sleep and stays asleep. */
    do {
        before = sleeps();
        pause_shortly();
        pause_shortly();
    } while (before < 0 || sleeps() != before);
    struct timespec long_enough = { 0, 250000000 };
    nanosleep(&long_enough, NULL);
    after = sleeps();
    printf("%s: %s\n", (char *)arg,
           after >= 0 && after - before <= 1 ? "nobody wakes up" : "somebody wakes up");
    if (pthread_kill(taker, SIGUSR1))
        die("pthread_kill");
    return arg;
}

static void on_signal(int number) { taken = number; }

static int by_pause(void) { return pause() == -1 && errno == EINTR ? SIGUSR1 : -1; }

static int by_sigsuspend(void)
{
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none) == -1 && errno == EINTR ? SIGUSR1 : -1;
}

static void idle(const char *name, int (*take)(void))
{
    pthread_t watcher;
    ready = 0;
    check(pthread_create(&watcher, NULL, watch_idle, (void *)name), "pthread_create");
    ready = 1;
    int number = take();
    check(pthread_join(watcher, NULL), "pthread_join");
    printf("%s: %d\n", name, number == SIGUSR1);
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    struct timespec moment = { 0, 1000000 };
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    if (pipe2(ends, O_CLOEXEC) || pthread_sigmask(SIG_BLOCK, &wanted, NULL))
        die("setup");
    /* Uses the numeric flags of glibc, for which some libcs have no names. */
    descriptor = (int)syscall(SYS_signalfd4, -1, &wanted, (size_t)8, 02000000);
    if (descriptor < 0)
        die("signalfd");
    taker = pthread_self();
    taker_id = (pid_t)syscall(SYS_gettid);
    SHOW(sigtimedwait(&wanted, NULL, &moment));
    task_t other = task_spawn(wait_for_stream, NULL);
    for (unsigned i = 0; i < sizeof WAYS / sizeof *WAYS; i++)
        for (int alone = 0; alone < 2; alone++)
            take_all(alone, WAYS[i].name, WAYS[i].take);
    SHOW(sigtimedwait(&wanted, NULL, &moment));
    idle("sigwait", by_sigwait);
    idle("sigwaitinfo", by_sigwaitinfo);
    if (sigaction(SIGUSR1, &action, NULL))
        die("sigaction");
    idle("sigsuspend", by_sigsuspend);
    if (pthread_sigmask(SIG_UNBLOCK, &wanted, NULL))
        die("pthread_sigmask");
    idle("pause", by_pause);
    write_full(ends[1], "x", 1);
    task_join(other);
}
