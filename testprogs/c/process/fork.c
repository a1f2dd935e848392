/* SPDX-License-Identifier: MIT */
/* fork.c - fork while other tasks wait in read: the child continues alone, and the parent's
 * reads are not disturbed. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/wait.h>

enum { WAITERS = 8 };

static int pipes[WAITERS][2];
static char got[WAITERS][16];
static task_sem_t about_to_read;

static void *wait_in_read(void *arg)
{
    long i = (char(*)[16])arg - got;
    task_sem_post(&about_to_read);
    ssize_t n = read(pipes[i][0], got[i], sizeof got[i] - 1);
    if (n < 0)
        die("read");
    return NULL;
}

/* No other task runs in the child, which reads, writes and waits like any program. */
static void child(void)
{
    char buf[200];
    int ends[2], fd = open("file", O_RDWR | O_CLOEXEC);
    SHOW(pread(fd, buf, sizeof buf, 100));
    show_data("child", buf, sizeof buf);
    SHOW(pwrite(fd, "child", 5, 0));
    SHOW(fsync(fd));
    SHOW(close(fd));
    SHOW(pipe2(ends, O_CLOEXEC));
    SHOW(write(ends[1], "to itself", 9));
    SHOW(read(ends[0], buf, sizeof buf));
    fflush(stdout);
    pid_t grandchild = fork();
    if (grandchild == 0) {
        _exit(write(ends[1], "grand", 5) == 5 ? 0 : 1);
    }
    SHOW(read(ends[0], buf, 5));
    int status;
    SHOW(waitpid(grandchild, &status, 0) == grandchild);
    printf("grandchild: %d\n", status);
}

static void probe(void)
{
    make_file("file", 9000);
    task_sem_init(&about_to_read, 0);
    task_t tasks[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        if (pipe2(pipes[i], O_CLOEXEC))
            die("pipe2");
        tasks[i] = task_spawn(wait_in_read, got[i]);
    }
    for (int i = 0; i < WAITERS; i++)
        task_sem_wait(&about_to_read);
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        child();
        fflush(stdout);
        _exit(5);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    printf("child ended: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    for (int i = 0; i < WAITERS; i++)
        if (write(pipes[i][1], "for one", 7) != 7)
            die("write");
    for (int i = 0; i < WAITERS; i++) {
        task_join(tasks[i]);
        printf("waiter %d: %s\n", i, got[i]);
    }
    show_file("file");
}
