/* SPDX-License-Identifier: MIT */
/* server.h - a TCP server with a task for each connection.
 *
 * It listens on a port of 127.0.0.1 that the kernel chooses, prints a line with it, and serves
 * until standard input ends. Then it prints a line with its cost since it began to listen, and
 * exits. */
#ifndef SERVER_H
#define SERVER_H

#include "tasks.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

struct server {
    void (*serve)(int connection); /* the server closes the connection when this returns */
    int listener;
    struct snapshot from;
    _Atomic uint64_t requests;
};

static struct server server;

/* Each connection may need two descriptors. */
static inline void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        die(errno, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        die(errno, "setrlimit");
}

/* Returns 0, or -1 if the peer is gone. */
static inline int send_all(int connection, const char *bytes, size_t n, int flags)
{
    while (n > 0) {
        ssize_t sent = send(connection, bytes, n, flags | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -1;
        bytes += sent;
        n -= (size_t)sent;
    }
    return 0;
}

static inline void *server_connection(void *arg)
{
    int connection = (int)(intptr_t)arg, on = 1;
    if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on))
        die(errno, "TCP_NODELAY");
    server.serve(connection);
    close(connection);
    return NULL;
}

static inline void *server_accept(void *unused)
{
    (void)unused;
    for (;;) {
        int connection = accept(server.listener, NULL, NULL);
        if (connection < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (connection < 0)
            die(errno, "accept");
        int error = task_try_start(server_connection, (void *)(intptr_t)connection);
        if (error)
            die(error, "cannot start a task for a connection");
    }
    return NULL;
}

static inline void *server_main(void *unused)
{
    char byte;
    task_start(server_accept, NULL);
    while (read(0, &byte, 1) > 0)
        ;
    struct snapshot to = snap();
    uint64_t requests = atomic_load(&server.requests);
    say_cost(requests, requests, &server.from, &to);
    _exit(0); /* the task that accepts never ends */
    return unused;
}

static inline void server_run(unsigned workers)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN); /* sendfile has no MSG_NOSIGNAL */
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server.listener < 0 || bind(server.listener, (struct sockaddr *)&address, length) ||
        listen(server.listener, 4096) ||
        getsockname(server.listener, (struct sockaddr *)&address, &length))
        die(errno, "cannot listen on 127.0.0.1");
    printf("{\"port\": %u, \"preloaded\": %s, \"fiber\": %s}\n", ntohs(address.sin_port),
           preloaded() ? "true" : "false", ON_FIBERS ? "true" : "false");
    fflush(stdout);
    server.from = snap();
    tasks_run(workers, server_main, NULL);
}

#endif
