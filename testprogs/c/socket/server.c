/* SPDX-License-Identifier: MIT */
/* server.c - a server that prints its port and waits for clients until it is killed: with -n1
 * in accept, with -n2 in poll, with -n3 in recv. */
#define _GNU_SOURCE
#include <poll.h>

#include "background_task.h"
#include "blocking_task.h"

static int fd;

static void *serve(void *arg)
{
    struct pollfd file = { fd, POLLIN, 0 };
    char byte;
    switch (task_options.tasks) {
    case 1: accept(fd, NULL, NULL); break;
    case 2: poll(&file, 1, -1); break;
    default: recv(fd, &byte, 1, 0); break;
    }
    return arg;
}

static void probe(void)
{
    struct sockaddr_in address;
    int is_udp = task_options.tasks == 3;
    fd = bound(is_udp ? SOCK_DGRAM : SOCK_STREAM, &address);
    if (!is_udp && listen(fd, 1))
        die("listen");
    background_begin();
    task_t task = task_spawn(serve, NULL);
    /* The server waits once this task, which has the same worker, runs again. */
    task_yield();
    printf("%d\n", ntohs(address.sin_port));
    task_join(task);
}
