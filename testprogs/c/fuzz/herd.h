/* SPDX-License-Identifier: MIT */
/* herd.h - the scene "herd": many tasks wait for the same few descriptors, and another task usually
 * wins the race.
 *
 * A waiter that had many spurious wake-ups still notices the next ready descriptor: every byte is
 * read exactly once. */
#ifndef FUZZ_HERD_H
#define FUZZ_HERD_H

#include <sys/epoll.h>
#include <sys/select.h>

#include "case.h"

enum { HERD_PIPES = 3, HERD_READERS = 6 };

struct herd {
    unsigned pipes;
    int ends[HERD_PIPES][2];
    unsigned read;
};

/* Waits for any of the pipes with the given kind of call. ready[i] says whether pipe i is worth a
 * try. */
static void wait_for_any(struct actor *self, const struct herd *h, const unsigned char *ended,
                         unsigned way, int epoll, unsigned char *ready)
{
    struct pollfd fds[HERD_PIPES];
    struct epoll_event events[HERD_PIPES];
    fd_set set;
    long result;
    int highest = -1;
    memset(ready, 1, HERD_PIPES);
    FD_ZERO(&set);
    for (unsigned i = 0; i < h->pipes; i++) {
        int fd = ended[i] ? -1 : h->ends[i][0];
        fds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
        if (fd >= 0)
            FD_SET(fd, &set);
        highest = fd > highest ? fd : highest;
    }
    switch (way) {
    case 0:
        result = CALL(self, highest, poll(fds, h->pipes, -1));
        for (unsigned i = 0; result > 0 && i < h->pipes; i++)
            ready[i] = fds[i].revents != 0;
        break;
    case 1:
        result = CALL(self, highest, select(highest + 1, &set, NULL, NULL, NULL));
        for (unsigned i = 0; result > 0 && i < h->pipes; i++)
            ready[i] = !ended[i] && FD_ISSET(h->ends[i][0], &set);
        break;
    default: result = CALL(self, epoll, epoll_wait(epoll, events, HERD_PIPES, -1));
    }
    REQUIRE(self, result > 0 || (result == -1 && errno == EINTR),
            "a wait without end gives %ld (%s)", result, strerror(errno));
}

static void herd_reader(struct actor *self, void *data)
{
    struct herd *h = data;
    unsigned char ended[HERD_PIPES] = { 0 }, ready[HERD_PIPES];
    unsigned left = h->pipes, way = below(self, 3);
    int epoll = (int)MUST(self, -1, epoll_create1(EPOLL_CLOEXEC));
    for (unsigned i = 0; i < h->pipes; i++) {
        struct epoll_event event = { .events = EPOLLIN };
        MUST(self, epoll, epoll_ctl(epoll, EPOLL_CTL_ADD, h->ends[i][0], &event));
    }
    while (left > 0) {
        wait_for_any(self, h, ended, way, epoll, ready);
        for (unsigned i = 0; i < h->pipes; i++) {
            char byte;
            int fd = h->ends[i][0];
            if (ended[i] || !ready[i])
                continue;
            long n = CALL(self, fd, read(fd, &byte, 1));
            if (n == 1)
                __atomic_fetch_add(&h->read, 1, __ATOMIC_RELAXED);
            else if (n == -1)
                REQUIRE(self, errno == EAGAIN || errno == EINTR, "read: %s", strerror(errno));
            else {
                MUST(self, epoll, epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
                ended[i] = 1;
                left--;
            }
        }
    }
    close_fd(self, epoll);
}

static void share_out(struct actor *self)
{
    struct herd *h = allocate(sizeof *h);
    struct actor *readers[HERD_READERS];
    unsigned reader_count = between(self, 2, HERD_READERS), bytes = between(self, 20, 150);
    h->pipes = between(self, 1, HERD_PIPES);
    for (unsigned i = 0; i < h->pipes; i++) {
        MUST(self, -1, pipe2(h->ends[i], O_CLOEXEC));
        MUST(self, h->ends[i][0], fcntl(h->ends[i][0], F_SETFL, O_NONBLOCK));
    }
    for (unsigned i = 0; i < reader_count; i++)
        readers[i] = start(self, herd_reader, h);
    for (unsigned n = 0; n < bytes; n++) {
        /* Writes mostly to the first pipe, so that a reader might miss the others. */
        unsigned at = chance(self, 80) ? 0 : below(self, h->pipes);
        write_all(self, h->ends[at][1], "x", 1);
        if (chance(self, 10))
            rest(self, below(self, 200));
        else if (chance(self, 60))
            task_yield();
    }
    for (unsigned i = 0; i < h->pipes; i++)
        close_fd(self, h->ends[i][1]);
    for (unsigned i = 0; i < reader_count; i++)
        finish(self, readers[i]);
    REQUIRE(self, h->read == bytes, "of %u bytes %u were read", bytes, h->read);
    for (unsigned i = 0; i < h->pipes; i++)
        close_fd(self, h->ends[i][0]);
    free(h);
}

/* ---- A plain thread that always reads first ------------------------------------------------- */

struct teaser {
    int teased[2], quiet[2];
    unsigned times;
    uint64_t random;
    volatile int last; /* the byte that stays has been written, or is about to be */
};

static void *tease(void *arg)
{
    struct teaser *t = arg;
    char byte = 'x';
    sigset_t all;
    sigfillset(&all);
    check(pthread_sigmask(SIG_SETMASK, &all, NULL), "pthread_sigmask");
    for (unsigned i = 0; i < t->times; i++) {
        if (write(t->teased[1], &byte, 1) != 1 || read(t->teased[0], &byte, 1) != 1)
            die("pipe");
        for (uint64_t end = now_ns() + (next_random(&t->random) >> 48) % 30000; now_ns() < end;)
            ;
    }
    t->last = 1;
    if (write(t->teased[1], &byte, 1) != 1)
        die("pipe");
    return NULL;
}

static void teased_waiter(struct actor *self, void *data)
{
    struct teaser *t = data;
    fd_set set;
    int with_poll = chance(self, 50), last;
    do {
        struct pollfd fds[2] = { { .fd = t->teased[0], .events = POLLIN },
                                 { .fd = t->quiet[0], .events = POLLIN } };
        last = t->last;
        FD_ZERO(&set);
        FD_SET(fds[0].fd, &set);
        FD_SET(fds[1].fd, &set);
        long n = with_poll ? CALL(self, fds[0].fd, poll(fds, 2, -1))
                           : CALL(self, fds[0].fd, select(FD_SETSIZE, &set, NULL, NULL, NULL));
        REQUIRE(self, n == 1 || (n == -1 && errno == EINTR), "a wait without end gives %ld (%s)", n,
                strerror(errno));
    } while (!last);
}

static void be_teased(struct actor *self)
{
    struct teaser *t = allocate(sizeof *t);
    struct actor *waiters[HERD_READERS];
    pthread_t thread;
    unsigned count = between(self, 1, HERD_READERS);
    t->times = between(self, 10, 400);
    t->random = mix(next_random(&self->random));
    MUST(self, -1, pipe2(t->teased, O_CLOEXEC));
    MUST(self, -1, pipe2(t->quiet, O_CLOEXEC));
    for (unsigned i = 0; i < count; i++)
        waiters[i] = start(self, teased_waiter, t);
    check(pthread_create(&thread, NULL, tease, t), "pthread_create");
    for (unsigned i = 0; i < count; i++)
        finish(self, waiters[i]);
    check(pthread_join(thread, NULL), "pthread_join");
    for (int i = 0; i < 2; i++) {
        close_fd(self, t->teased[i]);
        close_fd(self, t->quiet[i]);
    }
    free(t);
}

static void herd_scene(struct actor *self, void *unused)
{
    (void)unused;
    if (chance(self, 50))
        share_out(self);
    else
        be_teased(self);
}

#endif
