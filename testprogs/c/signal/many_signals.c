/* SPDX-License-Identifier: MIT */
/* many_signals.c - signals that arrive together or in large numbers while a task waits: each is
 * handled as often as it should be, in order, with the value that was sent, and the mask is
 * unchanged afterwards. Signals that usually report a fault end a wait when a process sends them.
 */
#define _GNU_SOURCE
#include "background_task.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { ROUNDS = 30, QUEUED = 400 };

static volatile sig_atomic_t handled[65];
static volatile int expected, misplaced, strangers;
static pthread_t self;
static pid_t me;

static void on_signal(int number) { handled[number]++; }

static void on_value(int number, siginfo_t *info, void *context)
{
    handled[number]++;
    misplaced += info->si_value.sival_int != expected++;
    strangers += info->si_code != SI_QUEUE || !context;
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    sigemptyset(&action.sa_mask);
    if (sigaction(number, &action, NULL))
        die("sigaction");
}

static void pause_shortly(void)
{
    struct timespec time = { 0, 1000000 };
    nanosleep(&time, NULL);
}

/* Waits until both have been handled; gives up after a long time. */
static void await(int number, int times)
{
    for (int i = 0; i < 5000 && handled[number] < times; i++)
        pause_shortly();
}

static int is_blocked(int number)
{
    sigset_t now;
    if (pthread_sigmask(SIG_BLOCK, NULL, &now))
        die("pthread_sigmask");
    return sigismember(&now, number);
}

/* ---- Two at a time -------------------------------------------------------------------------- */

static void two_at_a_time(int one, int other)
{
    int wrong_rounds = 0;
    handle(one, on_signal, 0);
    handle(other, on_signal, 0);
    for (int i = 0; i < ROUNDS && !wrong_rounds; i++) {
        handled[one] = handled[other] = 0;
        pid_t child = fork();
        if (!child) {
            pause_shortly();
            /* If the process is stopped in the meantime, both signals are pending when it
             * continues. */
            if (i % 2)
                kill(me, SIGSTOP);
            kill(me, one);
            kill(me, other);
            if (i % 2)
                kill(me, SIGCONT);
            _exit(0);
        }
        await(one, 1);
        await(other, 1);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
        wrong_rounds +=
            handled[one] != 1 || handled[other] != 1 || is_blocked(one) || is_blocked(other);
    }
    printf("signals %d and %d together, rounds gone wrong: %d\n", one, other, wrong_rounds);
}

/* ---- Queued ones, in order ------------------------------------------------------------------ */

static void *send_queued(void *arg)
{
    int number = *(int *)arg;
    for (int i = 0; i < QUEUED; i++) {
        union sigval value = { .sival_int = i };
        while (pthread_sigqueue(self, number, value) == EAGAIN)
            pause_shortly();
        if (i % 7 == 0)
            for (volatile int spin = 0; spin < 3000; spin++)
                ;
    }
    return arg;
}

static void in_order(int number, const char *how)
{
    struct sigaction action = { .sa_sigaction = on_value, .sa_flags = SA_SIGINFO | SA_RESTART };
    pthread_t sender;
    if (sigaction(number, &action, NULL))
        die("sigaction");
    handled[number] = 0;
    expected = misplaced = strangers = 0;
    self = pthread_self();
    check(pthread_create(&sender, NULL, send_queued, &number), "pthread_create");
    await(number, QUEUED);
    check(pthread_join(sender, NULL), "pthread_join");
    printf("%s: %d handled, %d misplaced, %d strangers\n", how, (int)handled[number], misplaced,
           strangers);
}

/* How many signals are queued to processes of this user, who share one limit. */
static rlim_t already_queued(void)
{
    char line[256];
    unsigned long n = 0;
    FILE *status = fopen("/proc/self/status", "re");
    if (!status)
        die("/proc/self/status");
    while (fgets(line, sizeof line, status) && sscanf(line, "SigQ: %lu", &n) != 1)
        ;
    fclose(status);
    return n;
}

static void queued(void)
{
    struct rlimit all, few;
    in_order(SIGRTMIN + 3, "queued to a thread");
    if (getrlimit(RLIMIT_SIGPENDING, &all))
        die("getrlimit");
    few = all;
    few.rlim_cur = already_queued() + 64;
    if (few.rlim_cur > all.rlim_cur)
        few.rlim_cur = all.rlim_cur;
    if (setrlimit(RLIMIT_SIGPENDING, &few))
        die("setrlimit");
    in_order(SIGRTMIN + 4, "with a short queue");
    if (setrlimit(RLIMIT_SIGPENDING, &all))
        die("setrlimit");
}

/* ---- Signals of faults, sent ---------------------------------------------------------------- */

static int ends[2];

static long wait_pause(void) { return pause(); }

static long wait_read(void)
{
    char byte;
    return read(ends[0], &byte, 1);
}

static long wait_sleep(void)
{
    struct timespec time = { 20, 0 };
    return nanosleep(&time, NULL);
}

static long wait_poll(void)
{
    struct pollfd polled = { .fd = ends[0], .events = POLLIN };
    return poll(&polled, 1, 20000);
}

static long wait_suspend(void)
{
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}

static const struct {
    const char *name;
    long (*wait)(void);
} WAITS[] = {
    { "pause", wait_pause }, { "read", wait_read },          { "nanosleep", wait_sleep },
    { "poll", wait_poll },   { "sigsuspend", wait_suspend },
};

/* Sends a signal every few milliseconds until the wait is over. */
static void interrupt_by(int number, long (*wait)(void), const char *name)
{
    handled[number] = 0;
    pid_t child = fork();
    if (!child) {
        for (int i = 0; i < 5000 && getppid() == me; i++) {
            struct timespec time = { 0, 3000000 };
            nanosleep(&time, NULL);
            kill(me, number);
        }
        _exit(0);
    }
    errno = 0;
    long result = wait();
    int error = errno;
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    printf("%s with signal %d: %ld %s, handled %d, blocked %d\n", name, number, result,
           strerror(error), handled[number] > 0, is_blocked(number));
}

static void faults(void)
{
    static const int FAULTS[] = { SIGUSR1, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    for (unsigned i = 0; i < sizeof FAULTS / sizeof *FAULTS; i++) {
        handle(FAULTS[i], on_signal, 0);
        for (unsigned k = 0; k < sizeof WAITS / sizeof *WAITS; k++)
            interrupt_by(FAULTS[i], WAITS[k].wait, WAITS[k].name);
        handle(FAULTS[i], SIG_DFL, 0);
    }
}

/* ---- The mask while a handler runs ---------------------------------------------------------- */

static volatile sig_atomic_t inside[3];

static void look(int number, siginfo_t *info, void *context)
{
    sigset_t now;
    handled[number]++;
    if (pthread_sigmask(SIG_BLOCK, NULL, &now))
        abort();
    inside[0] = sigismember(&now, number);
    inside[1] = sigismember(&now, SIGUSR2);
    inside[2] = sigismember(&now, SIGHUP);
    /* The signals that are blocked after it has returned. */
    sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGWINCH);
    (void)info;
}

static void with(int flags, const char *how)
{
    struct sigaction action = { .sa_sigaction = look, .sa_flags = SA_SIGINFO | flags }, now;
    sigset_t after;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR2);
    if (sigaction(SIGUSR1, &action, NULL))
        die("sigaction");
    interrupt_by(SIGUSR1, wait_read, how);
    printf("inside: %d %d %d\n", (int)inside[0], (int)inside[1], (int)inside[2]);
    if (pthread_sigmask(SIG_BLOCK, NULL, &after) || sigaction(SIGUSR1, NULL, &now))
        die("afterwards");
    printf("afterwards SIGWINCH: %d, mask of the action: %d %d %d\n", sigismember(&after, SIGWINCH),
           sigismember(&now.sa_mask, SIGUSR1), sigismember(&now.sa_mask, SIGUSR2),
           sigismember(&now.sa_mask, SIGTERM));
    sigemptyset(&after);
    sigaddset(&after, SIGWINCH);
    if (pthread_sigmask(SIG_UNBLOCK, &after, NULL))
        die("pthread_sigmask");
}

static void probe(void)
{
    me = getpid();
    background_begin();
    two_at_a_time(SIGUSR1, SIGUSR2);
    two_at_a_time(SIGSEGV, SIGUSR2);
    two_at_a_time(SIGBUS, SIGFPE);
    handle(SIGSEGV, SIG_DFL, 0);
    queued();
    faults();
    with(0, "a plain handler");
    with(SA_NODEFER, "SA_NODEFER");
    background_end();
}
