/* SPDX-License-Identifier: MIT */
/* interrupted_read.c - a handler without SA_RESTART runs while the task waits in read: the read
 * fails with EINTR. */
#define _GNU_SOURCE
#include "probe.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void on_tick(int signal) { ticks += signal == SIGALRM; }

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_tick };
    /* The timer repeats, so a tick that arrives before the read waits is not the last one. */
    struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, never = { { 0, 0 }, { 0, 0 } };
    int ends[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC) || sigaction(SIGALRM, &action, NULL) ||
        setitimer(ITIMER_REAL, &every, NULL))
        die("setup");
    SHOW(read(ends[0], &byte, 1));
    printf("handler ran: %d\n", ticks > 0);
    if (setitimer(ITIMER_REAL, &never, NULL))
        die("setitimer");
    SHOW(write(ends[1], "x", 1));
    SHOW(read(ends[0], &byte, 1));
}
