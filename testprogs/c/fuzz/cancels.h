/* SPDX-License-Identifier: MIT */
/* cancels.h - the scene "cancels": a cancelled wait ends, runs its cleanup handler, and takes no
 * event or data from later waits. */
#ifndef FUZZ_CANCELS_H
#define FUZZ_CANCELS_H

#include <sys/eventfd.h>
#include <sys/un.h>

#include "case.h"

enum cancel_call {
    CANCEL_READ,
    CANCEL_RECV,
    CANCEL_POLL,
    CANCEL_SLEEP,
    CANCEL_ACCEPT,
    CANCEL_EVENT,
    CANCEL_SEM,
    CANCEL_CALLS
};
enum { CANCEL_WAITERS = 3 };

struct cancelled_wait {
    enum cancel_call call;
    int fd, peer;
    task_sem_t sem;
    unsigned waiters;
    unsigned cleaned; /* cleanup handlers that ran */
    unsigned taken;   /* waits that ended with their event */
    volatile unsigned begun;
};

static void count_cleanup(void *arg)
{
    struct cancelled_wait *w = arg;
    __atomic_fetch_add(&w->cleaned, 1, __ATOMIC_RELAXED);
}

static void wait_for_ever(struct actor *self, struct cancelled_wait *w)
{
    char byte;
    uint64_t value;
    struct pollfd readable = { .fd = w->fd, .events = POLLIN };
    struct timespec day = { 86400, 0 };
    struct iovec one = { &byte, 1 };
    struct msghdr message = { .msg_iov = &one, .msg_iovlen = 1 };
    int with_vector = chance(self, 50);
    long result = -1;
    __atomic_fetch_add(&w->begun, 1, __ATOMIC_SEQ_CST);
    switch (w->call) {
    case CANCEL_READ:
        result = with_vector ? RESTARTED(self, w->fd, readv(w->fd, &one, 1))
                             : RESTARTED(self, w->fd, read(w->fd, &byte, 1));
        break;
    case CANCEL_RECV:
        result = with_vector ? RESTARTED(self, w->fd, recvmsg(w->fd, &message, 0))
                             : RESTARTED(self, w->fd, recv(w->fd, &byte, 1, 0));
        break;
    case CANCEL_EVENT:
        result = RESTARTED(self, w->fd, read(w->fd, &value, sizeof value)) == sizeof value ? 1 : -1;
        break;
    case CANCEL_SEM:
        enter_call(self, "sem_wait", -1);
        task_sem_wait(&w->sem);
        self->call = NULL;
        result = 1;
        break;
    /* No handler restarts these. */
    case CANCEL_POLL:
        while (CALL(self, w->fd, poll(&readable, 1, -1)) == -1 && errno == EINTR)
            ;
        break;
    case CANCEL_SLEEP:
        while (CALL(self, -1, nanosleep(&day, NULL)) == -1 && errno == EINTR)
            ;
        break;
    default:
        result = RESTARTED(self, w->fd, accept4(w->fd, NULL, NULL, SOCK_CLOEXEC));
        if (result >= 0)
            close((int)result);
    }
    if (result == 1)
        __atomic_fetch_add(&w->taken, 1, __ATOMIC_RELAXED);
}

/* The task's start function. It does not go through actor_main, so that join returns the mark of a
 * cancelled task. */
static void *cancel_waiter(void *arg)
{
    struct actor *self = arg;
    struct cancelled_wait *w = self->data;
    if (task_options.threads) {
        pthread_cleanup_push(count_cleanup, w);
        wait_for_ever(self, w);
        pthread_cleanup_pop(0);
    } else {
        fiber_cleanup_push(count_cleanup, w);
        wait_for_ever(self, w);
        fiber_cleanup_pop(0);
    }
    return NULL;
}

static void open_wait(struct actor *self, struct cancelled_wait *w)
{
    int ends[2] = { -1, -1 };
    w->fd = w->peer = -1;
    switch (w->call) {
    case CANCEL_READ:
    case CANCEL_POLL: MUST(self, -1, pipe2(ends, O_CLOEXEC)); break;
    case CANCEL_RECV:
        MUST(self, -1, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
        break;
    case CANCEL_EVENT: w->fd = (int)MUST(self, -1, eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)); return;
    case CANCEL_ACCEPT: {
        struct sockaddr_un address = { .sun_family =
                                           AF_UNIX }; /* bound by autobind, to an abstract name */
        w->fd = (int)MUST(self, -1, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        MUST(self, w->fd, bind(w->fd, (struct sockaddr *)&address, sizeof address.sun_family));
        MUST(self, w->fd, listen(w->fd, 4));
        return;
    }
    case CANCEL_SEM: task_sem_init(&w->sem, 0); return;
    default: return;
    }
    w->fd = ends[0];
    w->peer = ends[1];
}

/* Satisfies one waiter. Returns 0 if this kind of wait cannot be satisfied. */
static int give_one(struct actor *self, struct cancelled_wait *w)
{
    uint64_t one = 1;
    switch (w->call) {
    case CANCEL_READ:
    case CANCEL_RECV: write_all(self, w->peer, "x", 1); return 1;
    case CANCEL_EVENT: write_all(self, w->fd, &one, sizeof one); return 1;
    case CANCEL_SEM: task_sem_post(&w->sem); return 1;
    default: return 0;
    }
}

/* Takes everything that is left without waiting, and counts it. */
static unsigned take_rest(struct actor *self, struct cancelled_wait *w)
{
    unsigned count = 0;
    uint64_t value;
    if (w->call == CANCEL_SEM) {
        while ((task_options.threads ? sem_trywait(&w->sem.thread)
                                     : fiber_sem_trywait(&w->sem.fiber)) == 0)
            count++;
        return count;
    }
    struct pollfd readable = { .fd = w->fd, .events = POLLIN };
    for (;;) {
        long ready = CALL(self, w->fd, poll(&readable, 1, 0));
        if (ready == -1 && errno == EINTR)
            continue;
        if (ready <= 0)
            return count;
        if (MUST(self, w->fd, read(w->fd, &value, w->call == CANCEL_EVENT ? sizeof value : 1)) <= 0)
            return count;
        count++;
    }
}

static void cancel_round(struct actor *self)
{
    struct cancelled_wait *w = allocate(sizeof *w);
    struct actor *waiters[CANCEL_WAITERS];
    unsigned given = 0, cancelled = 0;
    w->call = below(self, CANCEL_CALLS);
    w->waiters = between(self, 1, CANCEL_WAITERS);
    open_wait(self, w);
    for (unsigned i = 0; i < w->waiters; i++) {
        waiters[i] = new_actor(self->scene, next_random(&self->random), NULL, w);
        waiters[i]->task = task_spawn(cancel_waiter, waiters[i]);
    }
    int all_begin = chance(self, 70), race = chance(self, 40);
    unsigned pause = below(self, 200), first = below(self, w->waiters);
    while (all_begin && w->begun < w->waiters)
        rest(self, 20);
    if (pause > 100)
        rest(self, pause);
    /* A cancelled thread may lose data that it has just read; only fibers guarantee more. */
    if (race && !task_options.threads)
        given = (unsigned)give_one(self, w);
    for (unsigned i = 0; i < w->waiters; i++) {
        task_t task = waiters[(first + i) % w->waiters]->task;
        int error = task_options.threads ? pthread_cancel(task.thread) : fiber_cancel(task.fiber);
        REQUIRE(self, error == 0 || error == ESRCH, "cancel: %s", strerror(error));
    }
    for (unsigned i = 0; i < w->waiters; i++) {
        void *result = finish(self, waiters[i]);
        waiters[i]->alive = 0;
        cancelled += result == (task_options.threads ? PTHREAD_CANCELED : FIBER_CANCELED);
    }
    REQUIRE(self, cancelled == w->cleaned, "%u waits were cancelled, %u cleanup handlers ran",
            cancelled, w->cleaned);
    REQUIRE(self, cancelled + w->taken >= w->waiters, "of %u waits %u were cancelled and %u ended",
            w->waiters, cancelled, w->taken);
    /* Data that arrives after the cancellation belongs to the next reader. */
    given += (unsigned)give_one(self, w);
    if (w->call != CANCEL_POLL && w->call != CANCEL_SLEEP && w->call != CANCEL_ACCEPT) {
        unsigned left = take_rest(self, w);
        REQUIRE(self, w->taken + left == given, "%s: of %u given, %u were taken and %u are left",
                w->call == CANCEL_SEM ? "sem" : "read", given, w->taken, left);
    }
    if (w->fd >= 0)
        close_fd(self, w->fd);
    if (w->peer >= 0)
        close_fd(self, w->peer);
    free(w);
}

static void cancels_scene(struct actor *self, void *unused)
{
    (void)unused;
    for (unsigned rounds = between(self, 1, 5); rounds > 0; rounds--)
        cancel_round(self);
}

#endif
