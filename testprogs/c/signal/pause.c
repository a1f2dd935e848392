/* SPDX-License-Identifier: MIT */
/* pause.c - pause, sigsuspend, sigpause, sigwait, sigwaitinfo, sigtimedwait: their results, and
 * the signal mask. */
#define _GNU_SOURCE
#include "background_task.h"

#include <signal.h>
#include <sys/time.h>

extern int __xpg_sigpause(int signal);

static volatile sig_atomic_t ticks, blocked_in_handler;

static int blocked(int signal)
{
    sigset_t now;
    if (sigprocmask(SIG_BLOCK, NULL, &now))
        abort();
    return sigismember(&now, signal);
}

static void on_tick(int signal)
{
    ticks += signal == SIGALRM;
    blocked_in_handler = blocked(SIGUSR2) * 100 + blocked(SIGALRM) * 10 + blocked(SIGUSR1);
}

static volatile int got;

static void on_usr1(int signal, siginfo_t *info, void *context)
{
    (void)context;
    got = signal == info->si_signo ? info->si_value.sival_int : -1;
}

static void tick(long every_us)
{
    struct itimerval timer = { { 0, every_us }, { 0, every_us } };
    ticks = 0;
    if (setitimer(ITIMER_REAL, &timer, NULL))
        die("setitimer");
}

static sigset_t set_of(int a, int b)
{
    sigset_t set;
    sigemptyset(&set);
    if (a)
        sigaddset(&set, a);
    if (b)
        sigaddset(&set, b);
    return set;
}

static void handlers(void)
{
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
    sigaddset(&action.sa_mask, SIGUSR1);
    if (sigaction(SIGALRM, &action, NULL))
        die("sigaction");
    tick(3000);
    SHOW(pause());
    printf("a handler ran: %d\n", ticks > 0);
    sigset_t none = set_of(0, 0), alarm = set_of(SIGALRM, 0), usr2 = set_of(SIGUSR2, 0);
    if (sigprocmask(SIG_BLOCK, &alarm, NULL))
        die("sigprocmask");
    tick(3000);
    SHOW(sigsuspend(&none));
    printf("ran: %d, blocked in it: %03d, after it: %d\n", ticks > 0, (int)blocked_in_handler,
           blocked(SIGALRM));
    SHOW(sigsuspend(&usr2));
    printf("ran: %d, blocked in it: %03d, after it: %d\n", ticks > 0, (int)blocked_in_handler,
           blocked(SIGUSR2));
    SHOW(__xpg_sigpause(SIGALRM));
    printf("ran: %d, after it: %d\n", ticks > 0, blocked(SIGALRM));
    /* A signal that is already pending. */
    tick(0);
    raise(SIGALRM);
    ticks = 0;
    SHOW(sigsuspend(&none));
    printf("ran: %d\n", (int)ticks);
    if (sigprocmask(SIG_UNBLOCK, &alarm, NULL))
        die("sigprocmask");
}

static void takers(void)
{
    sigset_t alarm = set_of(SIGALRM, 0), both = set_of(SIGALRM, SIGUSR1),
             real = set_of(SIGRTMIN, SIGRTMIN + 1);
    struct timespec none = { 0, 0 }, some = { 0, 3000000 }, wrong_one = { 0, 1000000000 };
    siginfo_t info;
    int number = 0;
    if (sigprocmask(SIG_BLOCK, &both, NULL) || sigprocmask(SIG_BLOCK, &real, NULL))
        die("sigprocmask");
    ticks = 0;
    SHOW(sigtimedwait(&both, &info, &none));
    SHOW(sigtimedwait(&both, &info, &some));
    SHOW(sigtimedwait(&both, NULL, &wrong_one));
    raise(SIGALRM);
    SHOW(sigwait(&both, &number));
    SHOW(number);
    tick(3000);
    SHOW(sigwait(&alarm, &number));
    SHOW(number);
    memset(&info, 0, sizeof info);
    SHOW(sigwaitinfo(&alarm, &info));
    printf("%d %d\n", info.si_signo, info.si_code == SI_KERNEL);
    SHOW(sigtimedwait(&both, NULL, NULL));
    tick(0);
    SHOW(ticks);
    sigtimedwait(&both, NULL, &none);
    for (int i = 0; i < 3; i++) {
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 10 + i });
        sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i });
    }
    for (int i = 0; i < 6; i++) {
        int taken = sigwaitinfo(&real, &info);
        printf("SIGRTMIN+%d: %d, %d\n", taken - SIGRTMIN, info.si_value.sival_int,
               info.si_code == SI_QUEUE);
    }
    raise(SIGUSR1);
    SHOW(sigwaitinfo(&both, &info));
    SHOW(info.si_code);
    kill(getpid(), SIGUSR1);
    SHOW(sigwaitinfo(&both, &info));
    SHOW(info.si_code);
    printf("sender: %d\n", info.si_pid == getpid());
    /* The handler of another signal ends these calls, but not sigwait. */
    sigset_t usr1 = set_of(SIGUSR1, 0);
    if (sigprocmask(SIG_UNBLOCK, &alarm, NULL))
        die("sigprocmask");
    tick(3000);
    SHOW(sigwaitinfo(&usr1, &info));
    printf("ran: %d\n", ticks > 0);
    SHOW(sigtimedwait(&usr1, &info, &(struct timespec){ 100, 0 }));
    tick(0);
}

static void masks(void)
{
    /* A signal is queued while the task waits, and its handler receives the value that was sent
     * with it. */
    struct sigaction action = { .sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO };
    sigset_t usr1 = set_of(SIGUSR1, 0), none = set_of(0, 0);
    if (sigaction(SIGUSR1, &action, NULL) || sigprocmask(SIG_BLOCK, &usr1, NULL))
        die("sigaction");
    sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 4711 });
    SHOW(got);
    SHOW(sigsuspend(&none));
    SHOW(got);
    /* Only once. */
    struct sigaction once = { .sa_handler = on_tick, .sa_flags = (int)SA_RESETHAND }, now;
    if (sigaction(SIGALRM, &once, NULL))
        die("sigaction");
    struct itimerval timer = { { 0, 0 }, { 0, 3000 } };
    ticks = 0;
    if (setitimer(ITIMER_REAL, &timer, NULL))
        die("setitimer");
    /* The handler may have run before the pause began. */
    while (ticks == 0)
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    if (sigaction(SIGALRM, NULL, &now))
        die("sigaction");
    printf("ran: %d, default again: %d\n", (int)ticks, now.sa_handler == SIG_DFL);
}

static char alternate[1 << 16];
static volatile int on_alternate;

static void on_other_stack(int signal)
{
    char here = (char)signal;
    on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
    ticks++;
}

static void other_stack(void)
{
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    struct sigaction action = { .sa_handler = on_other_stack, .sa_flags = SA_ONSTACK };
    int ends[2];
    char byte;
    if (sigaltstack(&stack, NULL) || sigaction(SIGALRM, &action, NULL) || pipe2(ends, O_CLOEXEC))
        die("setup");
    tick(3000);
    SHOW(read(ends[0], &byte, 1));
    tick(0);
    printf("on its stack: %d\n", on_alternate);
    stack.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&stack, NULL));
}

static void probe(void)
{
    background_begin();
    handlers();
    takers();
    masks();
    other_stack();
    background_end();
}
