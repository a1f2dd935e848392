/* SPDX-License-Identifier: MIT */
/* stream.h - the scene "stream": records through a pipe, FIFO or socket.
 *
 * Every record arrives complete and exactly once, and the records of one writer in order; the
 * readers see the end after the last one. */
#ifndef FUZZ_STREAM_H
#define FUZZ_STREAM_H

#include <sys/epoll.h>
#include <sys/select.h>

#include "record.h"

enum stream_kind {
    STREAM_PIPE,
    STREAM_FIFO,
    STREAM_UNIX,
    STREAM_PACKETS,
    STREAM_DATAGRAMS,
    STREAM_KINDS
};

struct stream {
    enum stream_kind kind;
    char path[64]; /* path of the FIFO */
    int in, out;
    struct ledger ledger;
    unsigned next_writer;
    int timed; /* the readers' end has SO_RCVTIMEO */
};

static int stream_is_socket(const struct stream *s) { return s->kind >= STREAM_UNIX; }

static int stream_has_boundaries(const struct stream *s) { return s->kind >= STREAM_PACKETS; }

/* ---- Writers -------------------------------------------------------------------------------- */

/* Sends one record with one call, which is atomic because no record is longer than PIPE_BUF. */
static long send_record(struct actor *self, struct stream *s, int fd, char *data, size_t size)
{
    size_t cut = below(self, (unsigned)size);
    struct iovec parts[2] = { { data, cut }, { data + cut, size - cut } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    struct pollfd writable = { .fd = fd, .events = POLLOUT };
    int socket = stream_is_socket(s);
    switch (below(self, socket ? 5 : 3)) {
    case 0: return RESTARTED(self, fd, write(fd, data, size));
    case 1: return RESTARTED(self, fd, writev(fd, parts, 2));
    case 2:
        if (CALL(self, fd, poll(&writable, 1, 50)) == -1)
            REQUIRE(self, errno == EINTR, "poll: %s", strerror(errno));
        return RESTARTED(self, fd, write(fd, data, size));
    case 3: return RESTARTED(self, fd, send(fd, data, size, MSG_NOSIGNAL));
    default: return RESTARTED(self, fd, sendmsg(fd, &message, MSG_NOSIGNAL));
    }
}

static void stream_writer(struct actor *self, void *data)
{
    struct stream *s = data;
    unsigned writer = __atomic_fetch_add(&s->next_writer, 1, __ATOMIC_RELAXED);
    int own = s->kind == STREAM_FIFO || chance(self, 40), fd = s->in;
    if (own)
        fd = s->kind == STREAM_FIFO ? (int)MUST(self, -1, open(s->path, O_WRONLY | O_CLOEXEC))
                                    : (int)MUST(self, s->in, dup(s->in));
    char *record = allocate(s->ledger.size);
    for (unsigned n = 0; n < s->ledger.records; n++) {
        make_record(record, s->ledger.size, writer, n);
        long sent = send_record(self, s, fd, record, s->ledger.size);
        REQUIRE(self, sent == (long)s->ledger.size, "a write of %zu bytes gives %ld (%s)",
                s->ledger.size, sent, sent < 0 ? strerror(errno) : "no error");
        if (chance(self, 20))
            task_yield();
        else if (chance(self, 5))
            rest(self, below(self, 300));
    }
    free(record);
    if (own)
        close_fd(self, fd);
}

/* ---- Readers -------------------------------------------------------------------------------- */

/* Waits until fd may be readable, with one of the calls for that purpose. */
static void wait_readable(struct actor *self, int fd)
{
    struct pollfd one = { .fd = fd, .events = POLLIN };
    struct timespec limit = { 0, 20000000 };
    struct timeval other = { 0, 20000 };
    fd_set set;
    long result = 0;
    switch (below(self, 4)) {
    case 0: result = CALL(self, fd, poll(&one, 1, 20)); break;
    case 1: result = CALL(self, fd, ppoll(&one, 1, &limit, NULL)); break;
    case 2:
        FD_ZERO(&set);
        FD_SET(fd, &set);
        result = CALL(self, fd, select(fd + 1, &set, NULL, NULL, &other));
        break;
    default: {
        struct epoll_event event = { .events = EPOLLIN };
        int set_fd = (int)MUST(self, -1, epoll_create1(EPOLL_CLOEXEC));
        MUST(self, set_fd, epoll_ctl(set_fd, EPOLL_CTL_ADD, fd, &event));
        result = CALL(self, fd, epoll_wait(set_fd, &event, 1, 20));
        int error = errno;
        close_fd(self, set_fd);
        errno = error;
    }
    }
    if (result == -1)
        REQUIRE(self, errno == EINTR, "waiting for input: %s", strerror(errno));
}

static long receive_once(struct actor *self, const struct stream *s, int fd, char *buffer,
                         size_t size)
{
    size_t cut = below(self, (unsigned)size);
    struct iovec parts[2] = { { buffer, cut }, { buffer + cut, size - cut } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    switch (below(self, stream_is_socket(s) ? 5 : 2)) {
    case 0: return CALL(self, fd, read(fd, buffer, size));
    case 1: return CALL(self, fd, readv(fd, parts, 2));
    case 2: return CALL(self, fd, recv(fd, buffer, size, 0));
    case 3: return CALL(self, fd, recvmsg(fd, &message, 0));
    default: return CALL(self, fd, recv(fd, buffer, size, MSG_DONTWAIT));
    }
}

static long receive(struct actor *self, const struct stream *s, int fd, char *buffer, size_t size)
{
    if (chance(self, 30))
        wait_readable(self, fd);
    for (;;) {
        long n = receive_once(self, s, fd, buffer, size);
        if (n != -1)
            return n;
        /* After MSG_DONTWAIT, or past SO_RCVTIMEO. */
        if (errno == EAGAIN && stream_is_socket(s))
            continue;
        /* A wait with SO_RCVTIMEO is not restarted after a handler. */
        if (errno == EINTR && s->timed)
            continue;
        if (!interrupted(self, "a read"))
            return n;
    }
}

static void stream_reader(struct actor *self, void *data)
{
    struct stream *s = data;
    unsigned last[WRITERS] = { 0 };
    size_t size = s->ledger.size,
           room = stream_has_boundaries(s) ? size : size * between(self, 1, 8);
    int own = chance(self, 40), fd = own ? (int)MUST(self, s->out, dup(s->out)) : s->out;
    char *buffer = allocate(room);
    for (;;) {
        long n = receive(self, s, fd, buffer, room);
        if (n <= 0) {
            REQUIRE(self, n == 0, "a read gives %s", strerror(errno));
            break;
        }
        if (n == 1)
            break; /* datagrams have no end: one byte stands for it */
        REQUIRE(self, n % (long)size == 0, "a read gives %ld bytes, torn from records of %zu", n,
                size);
        for (long at = 0; at + (long)size <= n; at += (long)size)
            note_record(self, &s->ledger, (struct record *)(buffer + at), last);
        if (chance(self, 20))
            task_yield();
    }
    free(buffer);
    if (own)
        close_fd(self, fd);
}

/* ---- The leader ----------------------------------------------------------------------------- */

static void open_stream(struct actor *self, struct stream *s)
{
    static const int types[] = { [STREAM_UNIX] = SOCK_STREAM,
                                 [STREAM_PACKETS] = SOCK_SEQPACKET,
                                 [STREAM_DATAGRAMS] = SOCK_DGRAM };
    int ends[2] = { -1, -1 };
    if (s->kind == STREAM_PIPE) {
        MUST(self, -1, pipe2(ends, O_CLOEXEC));
    } else if (s->kind == STREAM_FIFO) {
        snprintf(s->path, sizeof s->path, "fifo.%u", self->index);
        if (mkfifo(s->path, 0600))
            die("%s", s->path);
        /* The leader holds both ends open, so that no reader sees the end before the last writer
         * has opened it. */
        ends[1] = (int)MUST(self, -1, open(s->path, O_RDWR | O_CLOEXEC));
        ends[0] = (int)MUST(self, -1, open(s->path, O_RDONLY | O_CLOEXEC));
    } else {
        MUST(self, -1, socketpair(AF_UNIX, types[s->kind] | SOCK_CLOEXEC, 0, ends));
        struct timeval limit = { 0, 3000 };
        s->timed = chance(self, 40);
        if (s->timed)
            MUST(self, ends[0], setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    }
    s->out = ends[0];
    s->in = ends[1];
}

static void stream_scene(struct actor *self, void *unused)
{
    static const size_t sizes[] = { 64, 128, 512, 1024, 4096 };
    (void)unused;
    struct stream *s = allocate(sizeof *s);
    struct actor *writers[WRITERS], *readers[4];
    s->kind = below(self, STREAM_KINDS);
    s->ledger.size = sizes[below(self, 5)];
    s->ledger.writers = between(self, 1, 4);
    s->ledger.records = between(self, 5, 40);
    unsigned reader_count = between(self, 1, 3);
    open_stream(self, s);
    for (unsigned i = 0; i < reader_count; i++)
        readers[i] = start(self, stream_reader, s);
    for (unsigned i = 0; i < s->ledger.writers; i++)
        writers[i] = start(self, stream_writer, s);
    for (unsigned i = 0; i < s->ledger.writers; i++)
        finish(self, writers[i]);
    for (unsigned i = 0; s->kind == STREAM_DATAGRAMS && i < reader_count; i++)
        write_all(self, s->in, "", 1);
    close_fd(self, s->in);
    for (unsigned i = 0; i < reader_count; i++)
        finish(self, readers[i]);
    close_fd(self, s->out);
    check_ledger(self, &s->ledger);
    if (s->kind == STREAM_FIFO)
        MUST(self, -1, unlink(s->path));
    free(s);
}

#endif
