/* SPDX-License-Identifier: MIT */
/* shutdown.c - a socket is shut down, closed or replaced while a task waits on it, or its peer
 * closes or resets it. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>

static volatile sig_atomic_t broken_pipes;
static void on_broken_pipe(int signal) { broken_pipes += signal == SIGPIPE; }

static long by_recv(blocking_t *w) { return recv(w->fd, w->buf, w->size, 0); }
static long by_recvmsg(blocking_t *w)
{
    struct iovec part = { w->buf, w->size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    return recvmsg(w->fd, &message, 0);
}
static long by_waitall(blocking_t *w) { return recv(w->fd, w->buf, w->size, MSG_WAITALL); }
static long by_accept(blocking_t *w)
{
    int fd = accept(w->fd, NULL, NULL);
    return fd < 0 ? fd : close(fd);
}
static long by_poll(blocking_t *w)
{
    struct pollfd polled = { .fd = w->fd, .events = POLLIN };
    int n = poll(&polled, 1, -1);
    return n < 0 ? n : n * 1000L + polled.revents;
}
static long by_send(blocking_t *w) { return send(w->fd, w->buf, w->size, 0); }

static long (*const receives[])(blocking_t *) = { by_recv, by_recvmsg, by_waitall };

/* close(2) does not wake a waiting task, and the file stays open. */
static void closed(enum kind kind)
{
    for (int i = 0; i < 3; i++) {
        char room[10] = "";
        int ends[2], others[2];
        make_pair(kind, ends);
        blocking_t w = { .call = receives[i], .fd = ends[1], .buf = room, .size = 3 };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(close(ends[1]));
        /* The number now refers to another socket, whose data must not be taken. */
        make_pair(kind, others);
        if (others[0] != ends[1] && others[1] != ends[1])
            SHOW(dup2(others[1], ends[1]) == ends[1]);
        int mate = others[0] == ends[1] ? others[1] : others[0];
        SHOW(send(mate, "new", 3, 0));
        SHOW(send(ends[0], "old", 3, 0));
        blocking_show(&w, "the receive that was under way");
        printf("%s\n", room);
        memset(room, 0, sizeof room);
        SHOW(recv(ends[1], room, sizeof room, 0));
        printf("%s\n", room);
        if (others[0] != ends[1] && others[1] != ends[1])
            close(ends[1]);
        close_pair(others);
        SHOW(close(ends[0]));
    }
}

static void shut(enum kind kind)
{
    for (int i = 0; i < 3; i++) {
        char room[10] = "";
        int ends[2];
        make_pair(kind, ends);
        blocking_t w = { .call = receives[i], .fd = ends[1], .buf = room, .size = 3 };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(shutdown(ends[1], SHUT_RD));
        blocking_show(&w, "after shutdown");
        close_pair(ends);
    }
    /* The peer closes its end. */
    for (int i = 0; i < 3 && kind != UDP && kind != UNIX_DGRAM; i++) {
        char room[10] = "";
        int ends[2];
        make_pair(kind, ends);
        blocking_t w = { .call = receives[i], .fd = ends[1], .buf = room, .size = 3 };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(close(ends[0]));
        blocking_show(&w, "after the peer's close");
        SHOW(close(ends[1]));
    }
}

/* The peer resets the connection: the waiting call fails, once. */
static void reset(void)
{
    char room[10];
    int ends[2];
    struct linger now = { 1, 0 };
    make_pair(TCP, ends);
    blocking_t w = { .call = by_recv, .fd = ends[1], .buf = room, .size = 3 };
    blocking_start(&w);
    blocking_await(&w);
    if (setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &now, sizeof now))
        die("SO_LINGER");
    SHOW(close(ends[0]));
    blocking_show(&w, "after a reset");
    SHOW(recv(ends[1], room, 3, 0));
    SHOW(send(ends[1], "x", 1, 0));
    printf("signals: %d\n", (int)broken_pipes);
    SHOW(close(ends[1]));
}

static char large[4 << 20];

/* A send waits while the reader closes its end. */
static void broken(enum kind kind)
{
    int ends[2];
    make_pair(kind, ends);
    blocking_t w = { .call = by_send, .fd = ends[0], .buf = large, .size = sizeof large };
    while (send(ends[0], large, sizeof large, MSG_DONTWAIT) > 0)
        continue;
    blocking_start(&w);
    blocking_await(&w);
    SHOW(shutdown(ends[0], SHUT_WR));
    blocking_show(&w, "send");
    printf("signals: %d\n", (int)broken_pipes);
    SHOW(send(ends[0], "x", 1, 0));
    printf("signals: %d\n", (int)broken_pipes);
    SHOW(send(ends[0], "x", 1, MSG_NOSIGNAL));
    printf("signals: %d\n", (int)broken_pipes);
    close_pair(ends);
}

static void listener(void)
{
    struct sockaddr_in address;
    int fd = bound(SOCK_STREAM, &address);
    if (listen(fd, 5))
        die("listen");
    blocking_t w = { .call = by_accept, .fd = fd };
    blocking_start(&w);
    blocking_await(&w);
    SHOW(shutdown(fd, SHUT_RDWR));
    blocking_show(&w, "accept after shutdown");
    SHOW(close(fd));

    fd = bound(SOCK_STREAM, &address);
    if (listen(fd, 5))
        die("listen");
    w.fd = fd;
    blocking_start(&w);
    blocking_await(&w);
    SHOW(close(fd));
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    blocking_show(&w, "accept after close");
    SHOW(close(client));
}

/* A poll of a descriptor that is closed during the call continues until the file is ready;
 * afterwards the number is invalid. */
static void polled(enum kind kind)
{
    int ends[2];
    make_pair(kind, ends);
    blocking_t w = { .call = by_poll, .fd = ends[1] };
    blocking_start(&w);
    blocking_await(&w);
    SHOW(close(ends[1]));
    SHOW(send(ends[0], "x", 1, 0));
    blocking_show(&w, "poll after close");
    SHOW(close(ends[0]));
    make_pair(kind, ends);
    w.fd = ends[1];
    blocking_start(&w);
    blocking_await(&w);
    SHOW(shutdown(ends[1], SHUT_RD));
    blocking_show(&w, "poll after shutdown");
    close_pair(ends);
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_broken_pipe };
    if (sigaction(SIGPIPE, &action, NULL))
        die("sigaction");
    for (enum kind kind = 0; kind < KINDS; kind++) {
        printf("%s\n", kind_names[kind]);
        closed(kind);
        if (kind != UDP && kind != UNIX_DGRAM)
            shut(kind);
        if (is_stream(kind))
            broken(kind);
        polled(kind);
    }
    reset();
    listener();
}
