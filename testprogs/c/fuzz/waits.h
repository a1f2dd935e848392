/* SPDX-License-Identifier: MIT */
/* waits.h - the scene "waits": no timed wait ends early, and an event before the deadline is never
 * a timeout. */
#ifndef FUZZ_WAITS_H
#define FUZZ_WAITS_H

#include <sys/epoll.h>
#include <sys/select.h>

#include "case.h"

enum { TIMED_CALLS = 9 };

struct timed {
    int fd, socket; /* ends of a pipe and a socket that stay empty */
    int epoll;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    sem_t sem;
};

static struct timespec after_ns(clockid_t clock, uint64_t ns)
{
    struct timespec t;
    clock_gettime(clock, &t);
    ns += (uint64_t)t.tv_nsec;
    return (struct timespec){ t.tv_sec + (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
}

/* Makes one timed wait without an event. Returns 1 if it ended as a timeout. */
static int time_out(struct actor *self, struct timed *t, unsigned call, uint64_t ns)
{
    struct pollfd empty = { .fd = t->fd, .events = POLLIN };
    struct timespec span = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) }, deadline;
    struct timeval short_span = { 0, (suseconds_t)(ns / 1000) };
    struct epoll_event event;
    fd_set set;
    int ms = (int)(ns / 1000000), error;
    char byte;
    switch (call) {
    case 0:
        if (chance(self, 50))
            return CALL(self, -1, usleep((useconds_t)(ns / 1000))) == 0;
        return CALL(self, -1, nanosleep(&span, NULL)) == 0;
    case 1:
        deadline = after_ns(CLOCK_MONOTONIC, ns);
        enter_call(self, "clock_nanosleep", -1);
        error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL);
        self->call = NULL;
        errno = error;
        return error == 0;
    case 2: return CALL(self, t->fd, poll(&empty, 1, ms)) == 0;
    case 3: return CALL(self, t->fd, ppoll(&empty, 1, &span, NULL)) == 0;
    case 4:
        FD_ZERO(&set);
        FD_SET(t->fd, &set);
        return CALL(self, t->fd, select(t->fd + 1, &set, NULL, NULL, &short_span)) == 0;
    case 5: return CALL(self, t->epoll, epoll_wait(t->epoll, &event, 1, ms)) == 0;
    case 6: return CALL(self, t->socket, recv(t->socket, &byte, 1, 0)) == -1 && errno == EAGAIN;
    case 7:
        deadline = after_ns(CLOCK_REALTIME, ns);
        return CALL(self, -1, sem_timedwait(&t->sem, &deadline)) == -1 && errno == ETIMEDOUT;
    default:
        deadline = after_ns(CLOCK_REALTIME, ns);
        check(pthread_mutex_lock(&t->mutex), "pthread_mutex_lock");
        enter_call(self, "pthread_cond_timedwait", -1);
        error = pthread_cond_timedwait(&t->cond, &t->mutex, &deadline);
        self->call = NULL;
        check(pthread_mutex_unlock(&t->mutex), "pthread_mutex_unlock");
        errno = error;
        /* Spurious wake-ups are allowed. */
        return error == ETIMEDOUT ? 1 : error == 0 ? -1 : 0;
    }
}

static void check_timeouts(struct actor *self)
{
    struct timed *t = allocate(sizeof *t);
    struct epoll_event event = { .events = EPOLLIN };
    int ends[2] = { -1, -1 }, sockets[2] = { -1, -1 };
    MUST(self, -1, pipe2(ends, O_CLOEXEC));
    MUST(self, -1, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
    t->fd = ends[0];
    t->socket = sockets[0];
    t->epoll = (int)MUST(self, -1, epoll_create1(EPOLL_CLOEXEC));
    MUST(self, t->epoll, epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->fd, &event));
    check(pthread_mutex_init(&t->mutex, NULL), "pthread_mutex_init");
    check(pthread_cond_init(&t->cond, NULL), "pthread_cond_init");
    check(sem_init(&t->sem, 0, 0) ? errno : 0, "sem_init");
    for (unsigned rounds = between(self, 2, 6); rounds > 0; rounds--) {
        unsigned call = below(self, TIMED_CALLS);
        /* poll and epoll_wait count milliseconds. */
        uint64_t ns = call == 2 || call == 5 ? between(self, 0, 3) * UINT64_C(1000000)
                                             : between(self, 100, 3000) * UINT64_C(1000);
        struct timeval limit = { 0, (suseconds_t)(ns / 1000) };
        MUST(self, t->socket, setsockopt(t->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
        uint64_t begin = now_ns();
        int result = time_out(self, t, call, ns);
        uint64_t took = now_ns() - begin;
        if (result == 0)
            REQUIRE(self, errno == EINTR, "timed wait %u gives %s", call, strerror(errno));
        /* The deadlines of 7 and 8 use another clock; the kernel counts SO_RCVTIMEO in ticks. */
        if (result == 1 && call < 6)
            REQUIRE(self, took >= ns, "timed wait %u of %" PRIu64 " ns took %" PRIu64, call, ns,
                    took);
    }
    /* A descriptor that a timed-out wait still holds would keep the peer from seeing the end. */
    char byte;
    close_fd(self, t->socket);
    REQUIRE(self, MUST(self, sockets[1], read(sockets[1], &byte, 1)) == 0,
            "no end of file after close");
    close_fd(self, sockets[1]);
    close_fd(self, t->epoll);
    close_fd(self, ends[0]);
    close_fd(self, ends[1]);
    free(t);
}

/* ---- Wakes: an event with time to spare is an event ----------------------------------------- */

static void wait_for_byte(struct actor *self, void *data)
{
    int fd = *(int *)data;
    struct pollfd readable = { .fd = fd, .events = POLLIN };
    struct timespec minute = { 60, 0 };
    struct timeval limit = { 60, 900000 }, left;
    uint64_t begin;
    unsigned way = below(self, 3);
    fd_set set;
    char byte;
    long ready;
    do {
        FD_ZERO(&set);
        FD_SET(fd, &set);
        left = limit;
        begin = now_ns();
        ready = way == 0   ? CALL(self, fd, poll(&readable, 1, 60000))
                : way == 1 ? CALL(self, fd, ppoll(&readable, 1, &minute, NULL))
                           : CALL(self, fd, select(fd + 1, &set, NULL, NULL, &left));
    } while (ready == -1 && errno == EINTR);
    REQUIRE(self, ready == 1, "a wait of a minute gives %ld", ready);
    /* select writes back the remaining time; the kernel may round a microsecond down. */
    int64_t told =
        (left.tv_sec * INT64_C(1000000) + left.tv_usec + 1) * 1000 + (int64_t)(now_ns() - begin);
    REQUIRE(self, way != 2 || told >= INT64_C(60900000000), "select leaves %ld.%06ld s",
            (long)left.tv_sec, (long)left.tv_usec);
    REQUIRE(self, MUST(self, fd, read(fd, &byte, 1)) == 1, "what was readable has nothing");
}

static void check_wakes(struct actor *self)
{
    struct actor *waiters[4];
    int ends[4][2];
    for (int i = 0; i < 4; i++) {
        MUST(self, -1, pipe2(ends[i], O_CLOEXEC));
        waiters[i] = start(self, wait_for_byte, &ends[i][0]);
    }
    if (chance(self, 50))
        rest(self, below(self, 500));
    for (int i = 0; i < 4; i++)
        write_all(self, ends[i][1], "x", 1);
    for (int i = 0; i < 4; i++) {
        finish(self, waiters[i]);
        close_fd(self, ends[i][0]);
        close_fd(self, ends[i][1]);
    }
}

static void waits_scene(struct actor *self, void *unused)
{
    (void)unused;
    check_timeouts(self);
    check_wakes(self);
}

#endif
