/* SPDX-License-Identifier: MIT */
/* position.c - which calls move the file position and which do not: lseek, dup, fork, O_APPEND,
 * calls with an offset. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/wait.h>

static char buf[4096];

static void shared(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC), twin = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    int other = open("file", O_RDWR | O_CLOEXEC);
    SHOW(read(fd, buf, 100));
    SHOW(read(twin, buf, 100));
    show_data("second", buf, 100);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(other, 0, SEEK_CUR));
    SHOW(pread(fd, buf, 100, 5000));
    SHOW(pwrite(twin, "pwrite", 6, 300));
    SHOW(lseek(twin, 0, SEEK_CUR));
    SHOW(write(twin, "write", 5));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, 1000, SEEK_SET));
    SHOW(read(twin, buf, 50));
    struct iovec parts[] = { { buf, 7 }, { buf + 7, 8 } };
    SHOW(readv(fd, parts, 2));
    SHOW(preadv(fd, parts, 2, 0));
    SHOW(preadv2(fd, parts, 2, -1, 0));
    SHOW(pwritev2(fd, parts, 2, -1, 0));
    SHOW(writev(twin, parts, 2));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(close(fd));
    SHOW(read(twin, buf, 10));
    SHOW(lseek(twin, 0, SEEK_CUR));
    SHOW_FD(dup2(other, twin));
    SHOW(read(twin, buf, 10));
    SHOW(lseek(other, 0, SEEK_CUR));
    SHOW(lseek(twin, -5, SEEK_CUR));
    SHOW(lseek(twin, -50, SEEK_CUR));
    SHOW(close(twin));
    SHOW(close(other));
}

static void append(void)
{
    int fd = open("log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    SHOW(write(fd, "one ", 4));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, 1, SEEK_SET));
    SHOW(write(fd, "two ", 4));
    SHOW(lseek(fd, 0, SEEK_CUR));
    /* Linux appends regardless of the offset; the position does not change. */
    SHOW(pwrite(fd, "three ", 6, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    struct iovec part = { "four ", 5 };
    SHOW(pwritev(fd, &part, 1, 2));
    SHOW(writev(fd, &part, 1));
    SHOW(lseek(fd, 0, SEEK_CUR));
    /* O_APPEND is cleared while the file is open, and then set again. */
    SHOW(fcntl(fd, F_SETFL, 0));
    SHOW(pwrite(fd, "ONE", 3, 0));
    SHOW(lseek(fd, 4, SEEK_SET));
    SHOW(write(fd, "TWO", 3));
    SHOW(fcntl(fd, F_SETFL, O_APPEND));
    SHOW(write(fd, "five", 4));
    SHOW(lseek(fd, 0, SEEK_SET));
    long n = SHOW(read(fd, buf, sizeof buf));
    printf("log: %.*s\n", (int)n, buf);
    SHOW(close(fd));
}

static void forked(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC), status;
    SHOW(read(fd, buf, 10));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        SHOW(read(fd, buf, 20));
        SHOW(lseek(fd, 5, SEEK_CUR));
        SHOW(write(fd, "child", 5));
        fflush(stdout);
        _exit(7);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork");
    printf("child: %d\n", WEXITSTATUS(status));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, buf, 10));
    show_data("after the child", buf, 10);
    SHOW(close(fd));
}

static void probe(void)
{
    make_file("file", 9000);
    shared();
    append();
    forked();
    show_file("file");
    show_file("log");
}
