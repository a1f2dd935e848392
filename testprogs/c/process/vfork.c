/* SPDX-License-Identifier: MIT */
/* vfork.c - vfork while other tasks read: the child calls exec, or opens, moves and closes
 * descriptors and exits. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/wait.h>

enum { SIBLINGS = 8, BLOCK = 4096, BLOCKS = 32, CHILDREN = 6 };

static char *content;
static volatile int stop;
static pid_t parent;
static task_sem_t reading;

static void *read_blocks(void *arg)
{
    long number = (char *)arg - (char *)0;
    int fd = open("file", O_RDONLY | O_CLOEXEC | (number % 2 ? O_DIRECT : 0));
    char *block = allocate_aligned(BLOCK);
    for (long i = 0; !__atomic_load_n(&stop, __ATOMIC_SEQ_CST); i++) {
        long at = (i * 5 + number) % BLOCKS * BLOCK;
        ssize_t n = pread(fd, block, BLOCK, at);
        /* The child runs in the memory of the parent, but only its own task may run in it. */
        if (getpid() != parent)
            _exit(99);
        if (n != BLOCK || memcmp(block, content + at, BLOCK))
            wrong("sibling %ld, read %ld: %zd, %s", number, i, n, strerror(errno));
        if (i == 3)
            task_sem_post(&reading);
        if (i % 4 == 3)
            task_yield();
    }
    if (close(fd))
        die("close");
    free(block);
    return arg;
}

static void ended(const char *what, pid_t pid)
{
    int status;
    pid_t got = waitpid(pid, &status, 0);
    printf("%s: %s, status %x\n", what, got == pid && getpid() == parent ? "ours" : "not ours",
           (unsigned)status);
}

static void reads_go_on(const char *what)
{
    char *block = allocate_aligned(BLOCK);
    for (int flags = 0; flags < 2; flags++) {
        int fd = open("file", O_RDONLY | O_CLOEXEC | (flags ? O_DIRECT : 0));
        for (int i = 0; i < 4; i++) {
            if (pread(fd, block, BLOCK, i * BLOCK) != BLOCK ||
                memcmp(block, content + i * BLOCK, BLOCK))
                wrong("after %s: block %d", what, i);
            task_yield();
        }
        if (close(fd))
            die("close");
    }
    free(block);
}

static void execs(void)
{
    static char *const args[] = { "sh", "-c", "echo in the child; exit 7", NULL }, *const none[] = {
        NULL
    };
    fflush(stdout);
    pid_t pid = vfork();
    if (pid == 0) {
        execve("/bin/sh", args, none);
        _exit(127);
    }
    ended("exec", pid);
    reads_go_on("exec");
    pid = vfork();
    if (pid == 0) {
        execve("/nowhere/at/all", args, none);
        _exit(126);
    }
    ended("no such program", pid);
    reads_go_on("no such program");
}

/* The number of a file that is open with O_DIRECT in the parent, but closed or another file in the
 * child. */
static void moves_descriptors(void)
{
    char *block = allocate_aligned(BLOCK);
    int fd = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
    SHOW(pread(fd, block, BLOCK, 0));
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = vfork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        int moved = dup2(null, fd), far = dup2(null, 200);
        ssize_t n = write(moved, "lost", 4);
        int closed = close(null) + close(200);
        for (int i = 100; i < 300; i++)
            close(i);
        _exit(moved == fd && far == 200 && n == 4 && closed == 0 ? 5 : 6);
    }
    ended("dup2", pid);
    SHOW(pread(fd, block, BLOCK, BLOCK));
    printf("the file's: %d\n", !memcmp(block, content + BLOCK, BLOCK));
    SHOW(close(200));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(close(before));
    pid = vfork();
    if (pid == 0)
        _exit(close(fd) == 0 && close(fd) == -1 ? 5 : 6);
    ended("close", pid);
    SHOW(pread(fd, block, BLOCK, 2 * BLOCK));
    printf("the file's: %d\n", !memcmp(block, content + 2 * BLOCK, BLOCK));
    SHOW(close(fd));
    SHOW(close(fd));
    free(block);
    reads_go_on("dup2");
}

/* Communicates through a pipe with a child that has called exec, like a handwritten popen. */
static void talks(void)
{
    static char *const args[] = { "cat", NULL }, *const path[] = { "PATH=/usr/bin:/bin", NULL };
    int to[2], from[2];
    char text[32] = "";
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
        die("pipe2");
    fflush(stdout);
    pid_t pid = vfork();
    if (pid == 0) {
        if (dup2(to[0], 0) != 0 || dup2(from[1], 1) != 1)
            _exit(125);
        execvpe("cat", args, path);
        _exit(127);
    }
    SHOW(close(to[0]));
    SHOW(close(from[1]));
    SHOW(write(to[1], "there and back", 14));
    SHOW(close(to[1]));
    SHOW((long)read_full(from[0], text, sizeof text));
    printf("%s\n", text);
    SHOW(close(from[0]));
    ended("cat", pid);
}

static void probe(void)
{
    parent = getpid();
    make_file("file", BLOCKS * BLOCK);
    content = allocate(BLOCKS * BLOCK);
    pattern(content, BLOCKS * BLOCK, BLOCKS * BLOCK);
    int fd = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        fprintf(stderr, "no O_DIRECT here\n");
        exit(EXIT_SKIP);
    }
    if (fsync(fd) || close(fd))
        die("fsync");
    task_sem_init(&reading, 0);
    task_t siblings[SIBLINGS];
    for (long i = 0; i < SIBLINGS; i++)
        siblings[i] = task_spawn(read_blocks, (char *)0 + i);
    for (int i = 0; i < SIBLINGS; i++)
        task_sem_wait(&reading);
    for (int i = 0; i < CHILDREN; i++) {
        execs();
        moves_descriptors();
        talks();
    }
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < SIBLINGS; i++)
        task_join(siblings[i]);
}
