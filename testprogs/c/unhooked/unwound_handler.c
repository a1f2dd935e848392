/* SPDX-License-Identifier: MIT */
/* unwound_handler.c - a signal handler runs while a system call that no hook sees changes the mask,
 * and looks at the frames below it, as a profiler's does. */
#define _GNU_SOURCE
#include "probe.h"
#include "raw_call.h"

#include <execinfo.h>
#include <signal.h>

/* Where unblock_usr1 returns to, and whether the handler has found that among the frames. */
static void *caller;
static volatile sig_atomic_t found;

static void on_signal(int number)
{
    void *frames[64];
    (void)number;
    for (int n = backtrace(frames, 64); n-- > 0;)
        found |= frames[n] == caller;
}

/* The signal is pending, so the handler runs before the call returns. */
__attribute__((noinline)) static long unblock_usr1(void)
{
    uint64_t set = 1UL << (SIGUSR1 - 1);
    caller = __builtin_return_address(0);
    return raw_call(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof set);
}

static void probe(void)
{
    void *frame;
    sigset_t set;
    struct sigaction action = { .sa_handler = on_signal };
    backtrace(&frame, 1); /* loads the unwinder */
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (sigaction(SIGUSR1, &action, NULL))
        die("sigaction");
    check(pthread_sigmask(SIG_BLOCK, &set, NULL), "pthread_sigmask");
    check(pthread_kill(pthread_self(), SIGUSR1), "pthread_kill");
    printf("unblocked: %ld\n", unblock_usr1());
    printf("found: %d\n", (int)found);
}
