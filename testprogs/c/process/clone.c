/* SPDX-License-Identifier: MIT */
/* clone.c - creates children with clone(2), _Fork(3) and the bare system calls while other tasks
 * read. Each child reads and writes independently, and the parent's operations are not affected. */
#define _GNU_SOURCE
#include "probe.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { SIBLINGS = 6, BLOCK = 4096, BLOCKS = 16, STACK = 256 << 10 };

static char *content;
static volatile int stop;
static pid_t parent;
static int fd;

static void *read_blocks(void *arg)
{
    char *block = allocate_aligned(BLOCK);
    int direct = open("file", O_RDONLY | O_CLOEXEC | O_DIRECT);
    for (long i = 0; !__atomic_load_n(&stop, __ATOMIC_SEQ_CST); i++) {
        long at = i * 5 % BLOCKS * BLOCK;
        ssize_t n = pread(direct, block, BLOCK, at);
        if (getpid() != parent)
            _exit(99);
        if (n != BLOCK || memcmp(block, content + at, BLOCK))
            wrong("read %ld: %zd, %s", i, n, strerror(errno));
    }
    close(direct);
    free(block);
    return arg;
}

/* The work of each child: calls that would wait for a disk, or for the child itself. */
static int child(void *arg)
{
    static char block[BLOCK] __attribute__((aligned(BLOCK)));
    jmp_buf again;
    if (!setjmp(again))
        longjmp(again, 1);
    int direct = open("file", O_RDONLY | O_CLOEXEC | O_DIRECT), ends[2];
    for (long at = 0; at < BLOCKS * BLOCK; at += BLOCK)
        if (pread(direct, block, BLOCK, at) != BLOCK || memcmp(block, content + at, BLOCK))
            _exit(2);
    char byte = 0;
    if (pipe(ends) || write(ends[1], "x", 1) != 1 || read(ends[0], &byte, 1) != 1 || byte != 'x')
        _exit(3);
    struct timespec moment = { 0, 1000 };
    if (nanosleep(&moment, NULL) || close(direct))
        _exit(4);
    _exit(arg ? 10 : 11);
}

static void ended(const char *what, pid_t pid)
{
    int status = 0;
    if (pid < 0)
        die("%s", what);
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (WIFEXITED(status))
        printf("%s: exit %d\n", what, WEXITSTATUS(status));
    else
        printf("%s: signal %d\n", what, WTERMSIG(status));
}

static void probe(void)
{
    task_t siblings[SIBLINGS];
    parent = getpid();
    make_file("file", BLOCKS * BLOCK);
    content = allocate_aligned(BLOCKS * BLOCK);
    fd = open("file", O_RDONLY | O_CLOEXEC);
    if (pread(fd, content, BLOCKS * BLOCK, 0) != BLOCKS * BLOCK)
        die("pread");
    for (int i = 0; i < SIBLINGS; i++)
        siblings[i] = task_spawn(read_blocks, NULL);
    char *stack = allocate_aligned(STACK);
    for (int i = 0; i < 5; i++) {
        for (int n = 0; n < 20; n++)
            task_yield();
        ended("clone", clone(child, stack + STACK, SIGCHLD, content));
        ended("clone, in our memory",
              clone(child, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            child(NULL);
        ended("the system call clone", pid);
#ifdef SYS_fork
        pid = (pid_t)syscall(SYS_fork);
        if (pid == 0)
            child(NULL);
        ended("the system call fork", pid);
#endif
        /* The shim exports it if libc does not have it. */
        pid = _Fork ? _Fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            child(content);
        ended("_Fork", pid);
    }
    SHOW(clone(child, NULL, SIGCHLD, NULL));
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < SIBLINGS; i++)
        task_join(siblings[i]);
    free(stack);
    free(content);
    close(fd);
}
