/* SPDX-License-Identifier: MIT */
/* many_waits.c - a task waits on each of as many connections as the limit allows: none of them
 * needs a second descriptor. */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "blocking_task.h"

enum { LIMIT = 256, OWN = 16 };

static int first[LIMIT];

static long receive(blocking_t *w)
{
    char byte;
    return read(w->fd, &byte, 1);
}

static void probe(void)
{
    static blocking_t waiters[LIMIT];
    static int peers[LIMIT];
    struct rlimit limit;
    int n = 0;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        die("getrlimit");
    limit.rlim_cur = LIMIT;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        die("setrlimit");
    for (;; n++) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
            break;
        peers[n] = ends[1];
        waiters[n] = (blocking_t){ .call = receive, .fd = first[n] = ends[0] };
        blocking_start(&waiters[n]);
        task_sem_wait(&waiters[n].about_to);
    }
    /* Some descriptors belong to the rest of the program, some to the shim. */
    printf("%s\n", n >= (LIMIT - OWN) / 2 ? "as many as there may be" : strerror(errno));
    for (int i = 0; i < n; i++)
        if (write(peers[i], "x", 1) != 1)
            die("write");
    for (int i = 0; i < n; i++) {
        task_join(waiters[i].task);
        if (waiters[i].result != 1)
            die("read");
        close(first[i]);
        close(peers[i]);
    }
}
