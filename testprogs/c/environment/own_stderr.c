/* SPDX-License-Identifier: MIT */
/* own_stderr.c - a program that opens its own file "data" under the number of standard error, and
 * then runs fibers.
 *
 * usage: ownstderr HOW END, where HOW says how it closes descriptor 2, and END how it ends. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "task.h"

/* Also closes the shim's own descriptors, because no hook sees it. */
static void close_everything_unseen(void)
{
#ifdef __x86_64__
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_close_range), "D"(2), "S"(~0U), "d"(0)
                     : "rcx", "r11", "memory");
    if (result)
#endif
        exit(7);
}

static void replace_stderr(const char *how)
{
    if (strcmp(how, "dup2") == 0) {
        int fd = open("data", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || dup2(fd, 2) != 2 || close(fd))
            exit(2);
        return;
    }
    if (strcmp(how, "close") == 0)
        close(2);
    else if (strcmp(how, "fclose") == 0)
        fclose(stderr);
    else if (strcmp(how, "range") == 0)
        close_range(2, ~0U, 0);
    else if (strcmp(how, "raw") == 0)
        close_everything_unseen();
    if (open("data", O_RDWR | O_CREAT | O_TRUNC, 0600) != 2)
        exit(3);
}

static void *read_one(void *arg)
{
    char byte;
    if (read(*(int *)arg, &byte, 1) != 1)
        _exit(4);
    return arg;
}

static void *work(void *end)
{
    int ends[2];
    if (pipe(ends))
        _exit(5);
    task_t reader = task_spawn(read_one, ends);
    if (strcmp(end, "deadlock") == 0) {
        fiber_sem_t never;
        fiber_sem_init(&never, 0, 0);
        write_full(ends[1], "x", 1);
        fiber_sem_wait(&never);
    }
    write_full(ends[1], "x", 1);
    task_join(reader);
    if (strcmp(end, "fork") == 0) {
        pid_t child = fork();
        if (child == 0)
            exit(0);
        if (waitpid(child, NULL, 0) != child)
            _exit(6);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 1;
    replace_stderr(argv[1]);
    write_full(2, "mine\n", 5);
    return fiber_run(NULL, work, argv[2], NULL);
}
