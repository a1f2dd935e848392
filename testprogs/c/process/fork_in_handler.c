/* SPDX-License-Identifier: MIT */
/* fork_in_handler.c - a signal handler forks, and jumps out of itself in the child. The child is
 * then on its fiber again: a read that waits lets the child's other tasks run. */
#define _GNU_SOURCE
#include "probe.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

static sigjmp_buf out;
static pid_t child;
static int ends[2];

static void fork_and_jump(int number)
{
    (void)number;
    child = fork();
    if (child == 0)
        siglongjmp(out, 1);
}

static void *write_byte(void *arg)
{
    write_full(ends[1], "x", 1);
    return arg;
}

static int read_byte(void)
{
    char byte = 0;
    if (pipe(ends))
        die("pipe");
    task_t writer = task_spawn(write_byte, NULL);
    int n = (int)read(ends[0], &byte, 1);
    task_join(writer);
    return n == 1 && byte == 'x';
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = fork_and_jump };
    int status = 0;
    if (sigaction(SIGUSR1, &action, NULL))
        die("sigaction");
    if (sigsetjmp(out, 1)) {
        /* A child that hangs must not outlive the probe. */
        alarm(20);
        _exit(read_byte() ? 0 : 1);
    }
    raise(SIGUSR1);
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("waitpid");
    printf("child: %s %d\n", WIFEXITED(status) ? "exited" : "killed by",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    printf("parent: %d\n", read_byte());
}
