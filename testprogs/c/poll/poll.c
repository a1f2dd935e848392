/* SPDX-License-Identifier: MIT */
/* poll.c - poll, select, epoll_wait and their variants: the events they wait for, their results,
 * and timeouts. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/timerfd.h>

/* Values that the compiler must not know. */
static struct pollfd *volatile nowhere = (struct pollfd *)8;
static fd_set *volatile no_set = (fd_set *)8;
static struct pollfd *volatile anywhere = (struct pollfd[1]){ { -1, 0, 0 } };
static volatile nfds_t too_many = 1u << 30;
static volatile int negative = -1;

/* ---- poll ----------------------------------------------------------------------------------- */

enum { MOST = 300 };
static struct pollfd polled[MOST];
static nfds_t count;
static int timeout;
static struct timespec time_limit, *time_limited;

static long by_poll(blocking_t *w)
{
    (void)w;
    return poll(polled, count, timeout);
}
static long by_ppoll(blocking_t *w)
{
    (void)w;
    return ppoll(polled, count, time_limited, NULL);
}

static void show_polled(void)
{
    for (nfds_t i = 0; i < count; i++)
        if (polled[i].revents)
            printf("%d: %x\n", (int)i, (unsigned)polled[i].revents);
}

/* Polls until byte is written to `to`, which happens while the call waits. */
static void poll_until(int to, const char *what)
{
    for (int i = 0; i < 2; i++) {
        char byte;
        blocking_t w = { .call = i ? by_ppoll : by_poll };
        blocking_start(&w);
        blocking_await(&w);
        if (write(to, "x", 1) != 1)
            die("write");
        blocking_show(&w, what);
        show_polled();
        for (nfds_t at = 0; at < count; at++)
            if (polled[at].revents == POLLIN && read(polled[at].fd, &byte, 1) >= 0)
                break;
    }
}

static void polls(void)
{
    int ends[2], others[2], file = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (pipe2(ends, O_CLOEXEC) || pipe2(others, O_CLOEXEC))
        die("pipe2");
    timeout = -1;
    time_limited = NULL;
    polled[0] = (struct pollfd){ ends[0], POLLIN, -1 };
    count = 1;
    poll_until(ends[1], "one");
    timeout = 100000;
    time_limit = (struct timespec){ 100, 0 };
    time_limited = &time_limit;
    poll_until(ends[1], "one, in time");
    polled[0] = (struct pollfd){ ends[0], POLLIN | POLLRDNORM | POLLPRI, -1 };
    polled[1] = (struct pollfd){ others[0], POLLIN, -1 };
    polled[2] = (struct pollfd){ -1, POLLIN, -1 };
    polled[3] = (struct pollfd){ ends[0], POLLIN, -1 };
    polled[4] = (struct pollfd){ ends[0], 0, -1 };
    count = 5;
    poll_until(others[1], "the second of many");
    poll_until(ends[1], "one that is there twice");
    /* A regular file is always ready. */
    polled[2] = (struct pollfd){ file, POLLIN | POLLOUT, -1 };
    SHOW(poll(polled, count, -1));
    show_polled();
    polled[2].events = 0;
    SHOW(poll(polled, count, 10));
    show_polled();
    polled[2] = (struct pollfd){ 12345, POLLIN, -1 };
    SHOW(poll(polled, count, -1));
    show_polled();
    polled[2].fd = -1;
    /* Timeouts. */
    SHOW(poll(polled, count, 0));
    SHOW(poll(polled, count, 20));
    SHOW(poll(polled, 1, 20));
    SHOW(poll(NULL, 0, 20));
    SHOW(poll(NULL, 0, 0));
    SHOW(ppoll(NULL, 0, &(struct timespec){ 0, 1000000 }, NULL));
    SHOW(ppoll(polled, 1, &(struct timespec){ 0, -1 }, NULL));
    SHOW(ppoll(polled, 1, &(struct timespec){ -1, 0 }, NULL));
    SHOW(ppoll(polled, 1, &(struct timespec){ 0, 1000000000 }, NULL));
    SHOW(poll(nowhere, 1, -1));
    SHOW(poll(anywhere, too_many, -1));
    /* The end of a pipe, and a pipe without readers. */
    polled[0] = (struct pollfd){ ends[0], POLLIN, -1 };
    count = 1;
    timeout = -1;
    blocking_t w = { .call = by_poll };
    blocking_start(&w);
    blocking_await(&w);
    SHOW(close(ends[1]));
    blocking_show(&w, "the end");
    show_polled();
    polled[0] = (struct pollfd){ others[1], 0, -1 };
    blocking_start(&w);
    blocking_await(&w);
    SHOW(close(others[0]));
    blocking_show(&w, "no readers");
    show_polled();
    close(ends[0]);
    close(others[1]);
    close(file);
}

static void many(void)
{
    int pipes[MOST][2];
    for (int i = 0; i < MOST; i++) {
        if (pipe2(pipes[i], O_CLOEXEC))
            die("pipe2");
        polled[i] = (struct pollfd){ pipes[i][0], POLLIN, -1 };
    }
    count = MOST;
    timeout = -1;
    time_limited = NULL;
    poll_until(pipes[MOST - 1][1], "the last of many");
    poll_until(pipes[7][1], "the eighth of many");
    for (int i = 0; i < MOST; i++)
        close_pair(pipes[i]);
}

static void sockets(enum kind kind)
{
    int ends[2];
    char byte;
    make_pair(kind, ends);
    polled[0] = (struct pollfd){ ends[1], POLLIN | POLLRDHUP, -1 };
    count = 1;
    timeout = -1;
    time_limited = NULL;
    poll_until(ends[0], kind_names[kind]);
    polled[0].events = POLLIN | POLLOUT;
    SHOW(poll(polled, 1, -1));
    show_polled();
    if (is_stream(kind)) {
        polled[0].events = POLLIN | POLLRDHUP;
        blocking_t w = { .call = by_poll };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(shutdown(ends[0], SHUT_WR));
        blocking_show(&w, "the peer's end");
        show_polled();
        SHOW(read(ends[1], &byte, 1));
    }
    if (kind == TCP) {
        SHOW(send(ends[1], "!", 1, MSG_OOB));
        polled[0] = (struct pollfd){ ends[0], POLLPRI, -1 };
        SHOW(poll(polled, 1, -1));
        show_polled();
    }
    close_pair(ends);
}

/* ---- select --------------------------------------------------------------------------------- */

static fd_set sets[3];
static int highest;
static struct timeval select_limit, *select_limited;
static const sigset_t *select_mask;

static long by_select(blocking_t *w)
{
    (void)w;
    return select(highest, &sets[0], &sets[1], &sets[2], select_limited);
}
static long by_pselect(blocking_t *w)
{
    struct timespec limit = { 100, 0 };
    long n =
        pselect(highest, &sets[0], &sets[1], &sets[2], select_limited ? &limit : NULL, select_mask);
    blocking_note(w, "the limit is left alone: %d\n", limit.tv_sec == 100);
    return n;
}

static void show_sets(int a, int b)
{
    for (int i = 0; i < 3; i++)
        printf("%d%d ", !!FD_ISSET(a, &sets[i]), !!FD_ISSET(b, &sets[i]));
    puts("");
}

static void want(int a, int b)
{
    for (int i = 0; i < 3; i++)
        FD_ZERO(&sets[i]);
    FD_SET(a, &sets[0]);
    FD_SET(b, &sets[0]);
    FD_SET(a, &sets[2]);
    highest = (a > b ? a : b) + 1;
}

static void selects(void)
{
    int ends[2], others[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC) || pipe2(others, O_CLOEXEC))
        die("pipe2");
    for (int i = 0; i < 4; i++) {
        want(ends[0], others[0]);
        select_limit = (struct timeval){ 100, 0 };
        select_limited = i & 1 ? &select_limit : NULL;
        blocking_t w = { .call = i & 2 ? by_pselect : by_select };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(write(others[1], "x", 1));
        blocking_show(&w, "select");
        show_sets(ends[0], others[0]);
        printf("time is left: %d\n", select_limit.tv_sec >= 90 && select_limit.tv_sec <= 100);
        SHOW(read(others[0], &byte, 1));
    }
    want(ends[0], others[0]);
    select_limit = (struct timeval){ 0, 20000 };
    SHOW(select(highest, &sets[0], &sets[1], &sets[2], &select_limit));
    show_sets(ends[0], others[0]);
    printf("time left: %ld.%06ld\n", (long)select_limit.tv_sec, (long)select_limit.tv_usec);
    want(ends[0], others[0]);
    FD_SET(others[1], &sets[1]);
    highest = others[1] + 1;
    select_limit = (struct timeval){ 0, 1999999 };
    SHOW(select(highest, &sets[0], &sets[1], NULL, &select_limit));
    printf("time is left: %d, exceptions are left alone: %d\n", select_limit.tv_sec == 1,
           FD_ISSET(ends[0], &sets[2]));
    show_sets(ends[0], others[1]);
    SHOW(select(0, NULL, NULL, NULL, &(struct timeval){ 0, 1000 }));
    SHOW(select(-1, NULL, NULL, NULL, &(struct timeval){ 0, 1000 }));
    SHOW(select(0, NULL, NULL, NULL, &(struct timeval){ -1, 0 }));
    SHOW(pselect(0, NULL, NULL, NULL, &(struct timespec){ 0, 1000000000 }, NULL));
    want(ends[0], others[0]);
    int closed = dup(ends[0]);
    FD_SET(closed, &sets[0]);
    close(closed);
    highest = closed + 1 > highest ? closed + 1 : highest;
    SHOW(select(highest, &sets[0], NULL, NULL, NULL));
    SHOW(select(64, no_set, NULL, NULL, NULL));
    /* A hang-up is not an exception, so the call waits for its timeout. */
    want(ends[0], ends[0]);
    FD_ZERO(&sets[0]);
    SHOW(close(ends[1]));
    SHOW(select(highest, &sets[0], NULL, &sets[2], &(struct timeval){ 0, 30000 }));
    show_sets(ends[0], others[0]);
    want(ends[0], others[0]);
    SHOW(select(highest, &sets[0], NULL, &sets[2], NULL));
    show_sets(ends[0], others[0]);
    close(ends[0]);
    close_pair(others);
}

/* Descriptors that do not fit into an fd_set. */
static void large_sets(void)
{
    enum { HIGH = 5000, WORDS = 100 };
    static unsigned long bits[WORDS];
    int ends[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    int high = fcntl(ends[0], F_DUPFD_CLOEXEC, HIGH);
    if (high < 0) {
        puts("no high descriptors here");
        close_pair(ends);
        return;
    }
    bits[high / 64] = 1ul << high % 64;
    SHOW(write(ends[1], "x", 1));
    SHOW(select(WORDS * 64, (fd_set *)bits, NULL, NULL, NULL));
    printf("set: %d\n", bits[high / 64] == 1ul << high % 64);
    SHOW(read(high, &byte, 1));
    SHOW(select(WORDS * 64, (fd_set *)bits, NULL, NULL, &(struct timeval){ 0, 10000 }));
    printf("set: %d\n", bits[high / 64] != 0);
    close(high);
    close_pair(ends);
}

/* ---- epoll ---------------------------------------------------------------------------------- */

static struct epoll_event events[4];
static long by_epoll_wait(blocking_t *w) { return epoll_wait(w->fd, events, 4, timeout); }
static long by_epoll_pwait(blocking_t *w) { return epoll_pwait(w->fd, events, 4, timeout, NULL); }
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
static long by_epoll_pwait2(blocking_t *w)
{
    return epoll_pwait2(w->fd, events, 4, time_limited, NULL);
}
#else
#define by_epoll_pwait2 by_epoll_pwait
#endif
static long (*const epolls[])(blocking_t *) = { by_epoll_wait, by_epoll_pwait, by_epoll_pwait2 };

static void watch(int epoll, int fd, uint32_t wanted, uint32_t data)
{
    struct epoll_event event = { .events = wanted, .data = { .u32 = data } };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        die("epoll_ctl");
}

static void epoll_all(void)
{
    int ends[2], others[2];
    char byte;
    int epoll = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(EPOLL_CLOEXEC);
    if (pipe2(ends, O_CLOEXEC) || pipe2(others, O_CLOEXEC))
        die("pipe2");
    watch(epoll, ends[0], EPOLLIN, 1);
    watch(epoll, others[0], EPOLLIN | EPOLLET, 2);
    watch(outer, epoll, EPOLLIN, 3);
    for (int i = 0; i < 3; i++)
        for (int which = 0; which < 4; which++) {
            timeout = which & 1 ? 100000 : -1;
            time_limit = (struct timespec){ 100, 0 };
            time_limited = which & 1 ? &time_limit : NULL;
            blocking_t w = { .call = epolls[i], .fd = which & 2 ? outer : epoll };
            memset(events, 0, sizeof events);
            blocking_start(&w);
            blocking_await(&w);
            SHOW(write(i == 1 ? others[1] : ends[1], "x", 1));
            blocking_show(&w, "epoll_wait");
            printf("%x %u\n", events[0].events, events[0].data.u32);
            if (i == 1) {
                /* The event is reported only once. */
                SHOW(epoll_wait(epoll, events, 4, 0));
                SHOW(epoll_wait(epoll, events, 4, 10));
                SHOW(read(others[0], &byte, 1));
            } else
                SHOW(read(ends[0], &byte, 1));
        }
    SHOW(epoll_wait(epoll, events, 4, 20));
    SHOW(epoll_wait(epoll, events, 4, 0));
    SHOW(epoll_wait(epoll, events, 0, -1));
    SHOW(epoll_wait(epoll, events, negative, -1));
    SHOW(epoll_wait(ends[0], events, 4, -1));
    SHOW(epoll_wait(-1, events, 4, -1));
    /* An event that is added while the call waits. */
    int third[2];
    if (pipe2(third, O_CLOEXEC))
        die("pipe2");
    timeout = -1;
    blocking_t w = { .call = by_epoll_wait, .fd = epoll };
    blocking_start(&w);
    blocking_await(&w);
    watch(epoll, third[1], EPOLLOUT | EPOLLONESHOT, 4);
    blocking_show(&w, "epoll_wait");
    printf("%x %u\n", events[0].events, events[0].data.u32);
    SHOW(epoll_wait(epoll, events, 4, 10));
    /* A timer. */
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec soon = { .it_value = { 0, 10000000 } };
    watch(epoll, timer, EPOLLIN, 5);
    SHOW(timerfd_settime(timer, 0, &soon, NULL));
    SHOW(epoll_wait(epoll, events, 4, -1));
    printf("%x %u\n", events[0].events, events[0].data.u32);
    close(timer);
    close_pair(third);
    close_pair(ends);
    close_pair(others);
    close(outer);
    close(epoll);
}

/* ---- Signal masks --------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;
static void on_signal(int signal) { handled += signal == SIGUSR1; }

static sigset_t open_mask;
static long masked_poll(blocking_t *w)
{
    (void)w;
    return ppoll(polled, 1, NULL, &open_mask);
}
static long masked_select(blocking_t *w)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(w->fd, &set);
    return pselect(w->fd + 1, &set, NULL, NULL, NULL, &open_mask);
}
static long masked_epoll(blocking_t *w)
{
    (void)w;
    return epoll_pwait((int)w->size, events, 4, -1, &open_mask);
}

/* The signal is blocked except in the call, where its handler runs. It is pending before the call,
 * or arrives while the call waits. */
static void masks(void)
{
    long (*const calls[])(blocking_t *) = { masked_poll, masked_select, masked_epoll };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigset_t blocked;
    int ends[2], epoll = epoll_create1(EPOLL_CLOEXEC);
    sigemptyset(&open_mask);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    if (sigaction(SIGUSR1, &action, NULL) || pthread_sigmask(SIG_BLOCK, &blocked, NULL) ||
        pipe2(ends, O_CLOEXEC))
        die("setup");
    watch(epoll, ends[0], EPOLLIN, 1);
    polled[0] = (struct pollfd){ ends[0], POLLIN, 0 };
    for (int i = 0; i < 3; i++) {
        blocking_t w = { .call = calls[i], .fd = ends[0], .size = (size_t)epoll };
        if (kill(getpid(), SIGUSR1))
            die("kill");
        printf("handled: %d\n", (int)handled);
        blocking_start(&w);
        blocking_show(&w, "pending before");
        printf("handled: %d\n", (int)handled);
        blocking_start(&w);
        blocking_await(&w);
        if (kill(getpid(), SIGUSR1))
            die("kill");
        blocking_show(&w, "while it waits");
        printf("handled: %d\n", (int)handled);
        blocking_start(&w);
        blocking_await(&w);
        SHOW(write(ends[1], "x", 1));
        blocking_show(&w, "ready");
        SHOW(read(ends[0], &(char){ 0 }, 1));
    }
    close_pair(ends);
    close(epoll);
}

static void probe(void)
{
    polls();
    many();
    for (enum kind kind = 0; kind < KINDS; kind++)
        sockets(kind);
    selects();
    large_sets();
    epoll_all();
    masks();
}
