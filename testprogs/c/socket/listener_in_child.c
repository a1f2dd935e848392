/* SPDX-License-Identifier: MIT */
/* listener_in_child.c - a child that was forked while a task waited for connections closes the
 * listening socket. Once the parent has also closed it, connecting fails although the child still
 * lives. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <sys/wait.h>

static long by_accept(blocking_t *w) { return accept(w->fd, NULL, NULL); }

static int client_of(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SHOW(connect(fd, (const struct sockaddr *)address, sizeof *address));
    return fd;
}

static void probe(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "listener" };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), life[2], told[2];
    char byte;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 5) ||
        pipe2(life, O_CLOEXEC) || pipe2(told, O_CLOEXEC))
        die("a listening socket");
    blocking_t w = { .call = by_accept, .fd = listener };
    blocking_start(&w);
    blocking_await(&w);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        close(listener);
        close(life[1]);
        write_full(told[1], "x", 1);
        /* Until the parent closes the other end. */
        _exit((int)read(life[0], &byte, 1));
    }
    SHOW(read(told[0], &byte, 1));
    int first = client_of(&address);
    task_join(w.task);
    show_result("accept", w.result, w.error, 1);
    SHOW(close(listener));
    int second = client_of(&address);
    close(first);
    close(second);
    close((int)w.result);
    close_pair(life);
    close_pair(told);
    if (waitpid(child, NULL, 0) != child)
        die("waitpid");
}
