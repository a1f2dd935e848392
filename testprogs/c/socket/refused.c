/* SPDX-License-Identifier: MIT */
/* refused.c - a connection is refused only after connect has waited for it; then the same socket
 * connects again. */
#define _GNU_SOURCE
#include "blocking_task.h"

static struct sockaddr_in address;

static long by_connect(blocking_t *w)
{
    return connect(w->fd, (struct sockaddr *)&address, sizeof address);
}

static int listening(int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, backlog))
        die("a listening socket");
    return fd;
}

static void probe(void)
{
    socklen_t len = sizeof address;
    int error = -1;
    char byte = 'x';
    address = loopback(0);
    int listener = listening(0), first = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (getsockname(listener, (struct sockaddr *)&address, &len))
        die("getsockname");
    /* The first connection takes the only place in the queue. The kernel does not answer the second
     * one until it retries after a second. */
    SHOW(connect(first, (struct sockaddr *)&address, sizeof address));
    blocking_t w = { .call = by_connect, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    blocking_start(&w);
    blocking_await(&w);
    SHOW(close(listener));
    blocking_show(&w, "connect, refused late");
    len = sizeof error;
    SHOW(getsockopt(w.fd, SOL_SOCKET, SO_ERROR, &error, &len));
    printf("error: %d\n", error);
    SHOW(connect(w.fd, (struct sockaddr *)&address, sizeof address));
    listener = listening(1);
    SHOW(connect(w.fd, (struct sockaddr *)&address, sizeof address));
    int accepted = SHOW_FD(accept(listener, NULL, NULL));
    SHOW(send(w.fd, &byte, 1, 0));
    SHOW(recv(accepted, &byte, 1, 0));
    close(accepted);
    close(w.fd);
    close(first);
    close(listener);
}
