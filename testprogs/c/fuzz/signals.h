/* SPDX-License-Identifier: MIT */
/* signals.h - the scene "signals": no signal is lost or left blocked, real-time signals arrive in
 * order, and no signal hides an event.
 *
 * Only one scene of a case may use signals, because handlers belong to the process. A plain thread
 * sends them. */
#ifndef FUZZ_SIGNALS_H
#define FUZZ_SIGNALS_H

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/msg.h>
#include <sys/sem.h>

#include "case.h"

enum { SIGNAL_SLEEPERS = 6, EVENT_CALLS = 8 };

struct signals {
    pthread_t sender, target;
    volatile int stop;
    unsigned rounds;
    uint64_t random; /* state of the sender */
    int pipe[2];
    int events;              /* an eventfd */
    int queue, semaphores;   /* System V */
    volatile unsigned round; /* events: the round that the sender must end */
    unsigned call;           /* and the call that it must end */
};

static volatile unsigned handled[2], ordered_count, misordered, ordered_last;

static void count_user_signal(int number)
{
    __atomic_fetch_add(&handled[number == SIGUSR2], 1, __ATOMIC_SEQ_CST);
}

static void count_ordered_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    unsigned value = (unsigned)info->si_value.sival_int;
    if (value != ordered_last + 1)
        misordered++;
    ordered_last = value;
    ordered_count++;
}

static void on_signal(int number, void (*handler)(int), void (*with_info)(int, siginfo_t *, void *),
                      int restart)
{
    struct sigaction action = { .sa_flags = restart ? SA_RESTART : 0 };
    sigemptyset(&action.sa_mask);
    if (with_info) {
        action.sa_sigaction = with_info;
        action.sa_flags |= SA_SIGINFO;
    } else {
        action.sa_handler = handler;
    }
    if (sigaction(number, &action, NULL))
        die("sigaction");
}

/* Busy-waits until the count is reached; returns 0 after far more time than a signal takes. */
static int comes(const volatile unsigned *count, unsigned wanted)
{
    for (uint64_t limit = now_ns() + UINT64_C(5000000000);
         __atomic_load_n(count, __ATOMIC_SEQ_CST) < wanted;) {
        if (now_ns() > limit)
            return 0;
        usleep(20);
    }
    return 1;
}

/* ---- Background tasks that the signals interrupt -------------------------------------------- */

static void signal_sleeper(struct actor *self, void *data)
{
    struct signals *s = data;
    struct pollfd quiet = { .fd = s->pipe[0], .events = POLLIN };
    volatile unsigned spin;
    while (!s->stop) {
        switch (below(self, 4)) {
        case 0: rest(self, between(self, 10, 500)); break;
        case 1:
            if (CALL(self, quiet.fd, poll(&quiet, 1, 1)) == -1)
                REQUIRE(self, errno == EINTR, "poll: %s", strerror(errno));
            break;
        case 2:
            for (spin = 0; spin < 2000; spin++)
                ;
            break;
        default: task_yield();
        }
    }
}

static void with_sleepers(struct actor *self, struct signals *s, void *(*sender)(void *))
{
    struct actor *sleepers[SIGNAL_SLEEPERS];
    unsigned count = between(self, 1, SIGNAL_SLEEPERS);
    for (unsigned i = 0; i < count; i++)
        sleepers[i] = start(self, signal_sleeper, s);
    check(pthread_create(&s->sender, NULL, sender, s), "pthread_create");
    while (!s->stop)
        rest(self, 100);
    for (unsigned i = 0; i < count; i++)
        finish(self, sleepers[i]);
    check(pthread_join(s->sender, NULL), "pthread_join");
}

/* ---- Pairs: two signals close together ------------------------------------------------------ */

static void block_all_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    check(pthread_sigmask(SIG_SETMASK, &all, NULL), "pthread_sigmask");
}

static void *send_pairs(void *arg)
{
    struct signals *s = arg;
    block_all_signals();
    for (unsigned k = 1; k <= s->rounds; k++) {
        usleep((useconds_t)(next_random(&s->random) >> 40) % 300);
        if (kill(getpid(), SIGUSR1) || kill(getpid(), SIGUSR2))
            die("kill");
        if (!comes(&handled[0], k) || !comes(&handled[1], k))
            break;
    }
    s->stop = 1;
    return NULL;
}

static void signal_pairs(struct actor *self, struct signals *s)
{
    s->rounds = between(self, 5, 30);
    int restart = !fuzz.interrupts;
    on_signal(SIGUSR1, count_user_signal, NULL, restart);
    on_signal(SIGUSR2, count_user_signal, NULL, restart);
    with_sleepers(self, s, send_pairs);
    for (int i = 0; i < 2; i++)
        REQUIRE(self, handled[i] == s->rounds, "SIGUSR%d was sent %u times and handled %u times",
                i + 1, s->rounds, handled[i]);
}

/* ---- Order: real-time signals to one thread ------------------------------------------------- */

static void *send_ordered(void *arg)
{
    struct signals *s = arg;
    block_all_signals();
    for (unsigned k = 1; k <= s->rounds; k++) {
        union sigval value = { .sival_int = (int)k };
        int error;
        while ((error = pthread_sigqueue(s->target, SIGRTMIN + 3, value)) == EAGAIN)
            usleep(10);
        check(error, "pthread_sigqueue");
        if (next_random(&s->random) >> 61 == 0)
            usleep(20);
    }
    comes(&ordered_count, s->rounds);
    s->stop = 1;
    return NULL;
}

static void signal_order(struct actor *self, struct signals *s)
{
    s->rounds = between(self, 50, 800);
    s->target = pthread_self();
    on_signal(SIGRTMIN + 3, NULL, count_ordered_signal, !fuzz.interrupts);
    with_sleepers(self, s, send_ordered);
    REQUIRE(self, ordered_count == s->rounds, "of %u real-time signals %u were handled", s->rounds,
            ordered_count);
    REQUIRE(self, misordered == 0, "%u of %u real-time signals were handled out of order",
            misordered, s->rounds);
}

/* ---- Events: the event of a call comes first, the signal after it --------------------------- */

struct note {
    long type;
    char text[8];
};

static void make_event(const struct signals *s)
{
    struct note note = { 1, "note" };
    struct sembuf up = { 0, 1, 0 };
    int failed;
    switch (s->call) {
    case 5: failed = eventfd_write(s->events, 1); break;
    case 6: failed = msgsnd(s->queue, &note, sizeof note.text, 0); break;
    case 7: failed = semop(s->semaphores, &up, 1); break;
    default: failed = write(s->pipe[1], "e", 1) != 1;
    }
    if (failed)
        die("event %u", s->call);
}

static void *send_after_events(void *arg)
{
    struct signals *s = arg;
    block_all_signals();
    for (unsigned round = 1; round <= s->rounds; round++) {
        while (s->round < round)
            usleep(10);
        usleep((useconds_t)(next_random(&s->random) >> 40) % 400);
        make_event(s);
        check(pthread_kill(s->target, SIGUSR1), "pthread_kill");
        if (!comes(&handled[0], round))
            break;
    }
    return NULL;
}

static long wait_for_event(struct actor *self, struct signals *s)
{
    char byte;
    uint64_t value;
    struct note note;
    struct sembuf down = { 0, -1, 0 };
    struct iovec one = { &byte, 1 };
    struct pollfd readable = { .fd = s->pipe[0], .events = POLLIN };
    struct timeval limit = { 5, 0 };
    fd_set set;
    long result;
    switch (s->call) {
    case 0: return CALL(self, s->pipe[0], read(s->pipe[0], &byte, 1));
    case 1: return CALL(self, s->pipe[0], readv(s->pipe[0], &one, 1));
    case 2: result = CALL(self, s->pipe[0], poll(&readable, 1, 5000)); break;
    case 3:
        FD_ZERO(&set);
        FD_SET(s->pipe[0], &set);
        result = CALL(self, s->pipe[0], select(s->pipe[0] + 1, &set, NULL, NULL, &limit));
        break;
    case 4: {
        struct epoll_event event = { .events = EPOLLIN };
        int fd = (int)MUST(self, -1, epoll_create1(EPOLL_CLOEXEC));
        MUST(self, fd, epoll_ctl(fd, EPOLL_CTL_ADD, s->pipe[0], &event));
        result = CALL(self, fd, epoll_wait(fd, &event, 1, 5000));
        int error = errno;
        close_fd(self, fd);
        errno = error;
        break;
    }
    case 5: return CALL(self, s->events, eventfd_read(s->events, &value)) == 0 ? 1 : -1;
    case 6: return CALL(self, s->queue, msgrcv(s->queue, &note, sizeof note.text, 0, 0));
    default: return CALL(self, s->semaphores, semop(s->semaphores, &down, 1)) == 0 ? 1 : -1;
    }
    if (result == 1 && RESTARTED(self, s->pipe[0], read(s->pipe[0], &byte, 1)) != 1)
        violation(self, "what poll found readable is not: %s", strerror(errno));
    return result;
}

static void signal_after_event(struct actor *self, struct signals *s)
{
    static const char *const calls[EVENT_CALLS] = { "read",   "readv",      "poll",
                                                    "select", "epoll_wait", "read of an eventfd",
                                                    "msgrcv", "semop" };
    s->rounds = between(self, 3, 12);
    s->target = pthread_self();
    on_signal(SIGUSR1, count_user_signal, NULL, 0);
    check(pthread_create(&s->sender, NULL, send_after_events, s), "pthread_create");
    for (unsigned round = 1; round <= s->rounds; round++) {
        s->call = below(self, EVENT_CALLS);
        s->round = round;
        long result = wait_for_event(self, s);
        REQUIRE(self, result > 0, "%s: %s though the event came before the signal", calls[s->call],
                result < 0 ? strerror(errno) : "nothing");
        if (!comes(&handled[0], round)) {
            violation(self, "signal %u was not handled", round);
            break;
        }
        if (result <= 0)
            break;
    }
    s->round = s->rounds;
    s->stop = 1;
    check(pthread_join(s->sender, NULL), "pthread_join");
}

/* ---- The leader ----------------------------------------------------------------------------- */

static void signals_scene(struct actor *self, void *unused)
{
    static void (*const parts[])(struct actor *, struct signals *) = { signal_pairs, signal_order,
                                                                       signal_after_event };
    (void)unused;
    struct signals *s = allocate(sizeof *s);
    unsigned part = fuzz.interrupts ? below(self, 3) : below(self, 2);
    s->random = mix(next_random(&self->random));
    MUST(self, -1, pipe2(s->pipe, O_CLOEXEC));
    s->events = (int)MUST(self, -1, eventfd(0, EFD_CLOEXEC));
    s->queue = (int)MUST(self, -1, msgget(IPC_PRIVATE, 0600));
    s->semaphores = (int)MUST(self, -1, semget(IPC_PRIVATE, 1, 0600));
    parts[part](self, s);
    check_mask(self, "after the signals");
    close_fd(self, s->pipe[0]);
    close_fd(self, s->pipe[1]);
    close_fd(self, s->events);
    MUST(self, s->queue, msgctl(s->queue, IPC_RMID, NULL));
    MUST(self, s->semaphores, semctl(s->semaphores, 0, IPC_RMID));
    free(s);
}

#endif
