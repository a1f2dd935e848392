/* SPDX-License-Identifier: MIT */
/* accept.c - accept and connect: waits, errors, addresses, flags. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <poll.h>

static struct sockaddr_storage from;
static socklen_t from_len;
static int accept_flags;

static long by_accept(blocking_t *w) { return accept(w->fd, (struct sockaddr *)&from, &from_len); }
static long by_accept4(blocking_t *w)
{
    return accept4(w->fd, (struct sockaddr *)&from, &from_len, accept_flags);
}
static long by_accept_nowhere(blocking_t *w) { return accept4(w->fd, NULL, NULL, SOCK_CLOEXEC); }
static long by_connect(blocking_t *w) { return connect(w->fd, w->buf, (socklen_t)w->size); }

static const struct {
    const char *name;
    long (*call)(blocking_t *);
} accepts[] = {
    { "accept", by_accept },
    { "accept4", by_accept4 },
    { "accept nowhere", by_accept_nowhere },
};

static int accepted(blocking_t *w, const char *what)
{
    task_join(w->task);
    show_result(what, w->result, w->error, 1);
    return (int)w->result;
}

static void each(int family, int listener, struct sockaddr *address, socklen_t len)
{
    char byte;
    for (int i = 0; i < 3; i++)
        for (int flags = 0; flags < 2; flags++)
            for (socklen_t room = sizeof from;; room = 3) {
                memset(&from, 0, sizeof from);
                from_len = room;
                accept_flags = flags ? SOCK_NONBLOCK | SOCK_CLOEXEC : 0;
                blocking_t w = { .call = accepts[i].call, .fd = listener };
                blocking_start(&w);
                blocking_await(&w);
                int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
                SHOW(connect(client, address, len));
                int fd = accepted(&w, accepts[i].name);
                printf("flags: %d %d, family %d, length %u\n", !!(fcntl(fd, F_GETFL) & O_NONBLOCK),
                       fcntl(fd, F_GETFD), from.ss_family, from_len);
                SHOW(recv(fd, &byte, 1, MSG_DONTWAIT));
                if (accept_flags & SOCK_NONBLOCK && accepts[i].call == by_accept4)
                    SHOW(recv(fd, &byte, 1, 0));
                SHOW(send(client, "x", 1, 0));
                SHOW(recv(fd, &byte, 1, 0));
                SHOW(close(client));
                SHOW(close(fd));
                if (room == 3)
                    break;
            }
}

static void errors(void)
{
    struct sockaddr_in address;
    struct sockaddr_un missing = { .sun_family = AF_UNIX, .sun_path = "missing" };
    int fd = bound(SOCK_STREAM, &address), file = open(".", O_RDONLY | O_CLOEXEC);
    int datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    SHOW(accept(fd, NULL, NULL));
    SHOW(accept(file, NULL, NULL));
    SHOW(accept(-1, NULL, NULL));
    SHOW(accept(datagrams, NULL, NULL));
    SHOW(accept4(fd, NULL, NULL, 1));
    SHOW(connect(file, (struct sockaddr *)&address, sizeof address));
    SHOW(connect(-1, (struct sockaddr *)&address, sizeof address));
    SHOW(connect(datagrams, (struct sockaddr *)&address, sizeof address));
    SHOW(connect(fd, NULL, sizeof address));
    SHOW(connect(fd, (struct sockaddr *)&address, 1000));
    int unix_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SHOW(connect(unix_socket, (struct sockaddr *)&missing, sizeof missing));
    SHOW(connect(unix_socket, (struct sockaddr *)&address, sizeof address));
    /* A connection is refused; then the same socket connects again when there is a listener. */
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    int error = -1;
    socklen_t len = sizeof error;
    SHOW(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &len));
    printf("error: %d\n", error);
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    SHOW(listen(fd, 5));
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    /* With non-blocking sockets. */
    int nonblocking = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    SHOW(connect(nonblocking, (struct sockaddr *)&address, sizeof address));
    struct pollfd polled = { .fd = nonblocking, .events = POLLOUT };
    SHOW(poll(&polled, 1, -1));
    SHOW(getsockopt(nonblocking, SOL_SOCKET, SO_ERROR, &error, &len));
    SHOW(connect(nonblocking, (struct sockaddr *)&address, sizeof address));
    SHOW(connect(nonblocking, (struct sockaddr *)&address, sizeof address));
    SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
    for (int i = 0; i < 2; i++) {
        int one = SHOW_FD(accept(fd, NULL, NULL));
        close(one);
    }
    SHOW(accept(fd, NULL, NULL));
    close(nonblocking);
    close(client);
    close(unix_socket);
    close(datagrams);
    close(file);
    close(fd);
}

/* A non-blocking connect starts a connection, and a second call waits for it. */
static void second(void)
{
    struct sockaddr_in address;
    int fd = bound(SOCK_STREAM, &address);
    SHOW(listen(fd, 5));
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    SHOW(fcntl(client, F_SETFL, 0));
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    SHOW(send(client, "x", 1, 0));
    close(client);
    close(fd);
}

/* A connect to a full queue waits until there is room. */
static void full(void)
{
    struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "full" };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fds[2];
    if (bind(listener, (struct sockaddr *)&path, sizeof path) || listen(listener, 0))
        die("listen");
    fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SHOW(connect(fds[0], (struct sockaddr *)&path, sizeof path));
    fds[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    blocking_t w = { .call = by_connect, .fd = fds[1], .buf = &path, .size = sizeof path };
    blocking_start(&w);
    blocking_await(&w);
    int one = SHOW_FD(accept(listener, NULL, NULL));
    blocking_show(&w, "connect");
    int two = SHOW_FD(accept(listener, NULL, NULL));
    close(one);
    close(two);
    close_pair(fds);
    close(listener);
}

/* Many tasks wait on one listener, and each gets a connection. */
static void *accept_one(void *arg)
{
    int fd = accept(*(int *)arg, NULL, NULL);
    if (fd < 0 || send(fd, "y", 1, 0) != 1 || close(fd))
        die("accept");
    return NULL;
}

static void crowd(void)
{
    enum { ACCEPTORS = 200 };
    struct sockaddr_in address;
    int fd = bound(SOCK_STREAM, &address), served = 0;
    task_t tasks[ACCEPTORS];
    SHOW(listen(fd, 5));
    for (int i = 0; i < ACCEPTORS; i++)
        tasks[i] = task_spawn(accept_one, &fd);
    for (int i = 0; i < ACCEPTORS; i++) {
        char byte;
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(client, (struct sockaddr *)&address, sizeof address))
            die("connect");
        served += recv(client, &byte, 1, 0) == 1;
        close(client);
    }
    for (int i = 0; i < ACCEPTORS; i++)
        task_join(tasks[i]);
    printf("served: %d\n", served);
    close(fd);
}

static void probe(void)
{
    struct sockaddr_in address;
    struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "socket" };
    int listener = bound(SOCK_STREAM, &address);
    if (listen(listener, 5))
        die("listen");
    each(AF_INET, listener, (struct sockaddr *)&address, sizeof address);
    close(listener);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&path, sizeof path) || listen(listener, 5))
        die("listen");
    each(AF_UNIX, listener, (struct sockaddr *)&path, sizeof path);
    close(listener);
    errors();
    second();
    full();
    crowd();
}
