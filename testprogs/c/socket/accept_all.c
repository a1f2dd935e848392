/* SPDX-License-Identifier: MIT */
/* accept_all.c - a fiber that accepts in a loop takes all pending connections while another fiber
 * yields a few times. */
#define _GNU_SOURCE
#include "blocking_task.h"

enum { CONNECTIONS = 200 };

static int listener, accepted;

static void *accept_all(void *unused)
{
    for (; accepted < CONNECTIONS; accepted++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            die("accept4");
        close(fd);
    }
    return unused;
}

static void probe(void)
{
    static int clients[CONNECTIONS];
    struct sockaddr_in address;
    int rounds = 0;
    listener = bound(SOCK_STREAM, &address);
    if (listen(listener, CONNECTIONS))
        die("listen");
    for (int i = 0; i < CONNECTIONS; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (clients[i] < 0 || connect(clients[i], (struct sockaddr *)&address, sizeof address))
            die("connect");
    }
    task_t task = task_spawn(accept_all, NULL);
    for (; accepted < CONNECTIONS; rounds++)
        task_yield();
    task_join(task);
    /* The accepting fiber lets others run once every 64 calls. */
    if (rounds > CONNECTIONS / 8)
        printf("%d rounds\n", rounds);
    puts("accepted all");
}
