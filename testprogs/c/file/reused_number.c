/* SPDX-License-Identifier: MIT */
/* reused_number.c - a descriptor number is reused for another file by calls that a preload cannot
 * see. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>

static char buf[1000];

/* Puts file on the number fd and closes file. */
static void replace(int fd, int file)
{
    if (file < 0 || syscall(SYS_dup3, file, fd, O_CLOEXEC) != fd || syscall(SYS_close, file))
        die("replace");
}

static int pipe_end(int which, int flags, int *other)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | flags))
        die("pipe2");
    *other = ends[!which];
    return ends[which];
}

/* Makes a call of each kind, so that the shim learns everything it can about the number. */
static void use(int fd)
{
    struct iovec part = { buf, 10 };
    SHOW(pread(fd, buf, 10, 20));
    SHOW(read(fd, buf, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(write(fd, "0123456789", 10));
    SHOW(pwrite(fd, "0123456789", 10, 20));
    SHOW(readv(fd, &part, 1));
    SHOW(writev(fd, &part, 1));
}

static void by_system_call(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC), writer, reader;
    puts("a file");
    use(fd);
    replace(fd, pipe_end(0, O_NONBLOCK, &writer));
    puts("an empty pipe that does not block");
    use(fd);
    SHOW(write(writer, "abc", 3));
    SHOW(read(fd, buf, 10));
    replace(fd, open("file", O_RDWR | O_APPEND | O_CLOEXEC));
    puts("a file that appends");
    use(fd);
    replace(fd, pipe_end(1, O_NONBLOCK, &reader));
    puts("the other end of a pipe");
    use(fd);
    SHOW(read(reader, buf, 100));
    replace(fd, eventfd(3, EFD_CLOEXEC | EFD_NONBLOCK));
    puts("an eventfd");
    use(fd);
    SHOW(read(fd, buf, 8));
    replace(fd, open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    puts("a directory");
    use(fd);
    replace(fd, open("file", O_RDONLY | O_CLOEXEC));
    puts("a file to read");
    use(fd);
    SHOW(syscall(SYS_close, fd));
    puts("nothing");
    use(fd);
    SHOW(close(writer));
    SHOW(close(reader));
}

/* fclose closes the descriptor inside libc; the next open gets the number. */
static void by_fclose(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC), other;
    use(fd);
    FILE *file = fdopen(fd, "r");
    if (!file || fclose(file))
        die("fclose");
    int reader = pipe_end(0, O_NONBLOCK, &other);
    printf("the same number: %s\n", reader == fd ? "yes" : "no");
    use(reader);
    SHOW(close(reader));
    SHOW(close(other));
}

/* Flags belong to the open file, and any descriptor of it may change them. */
static void by_flags(void)
{
    int other, fd = pipe_end(0, 0, &other), twin = dup(fd);
    SHOW(write(other, "abc", 3));
    SHOW(read(fd, buf, 10));
    if (syscall(SYS_fcntl, twin, F_SETFL, O_NONBLOCK))
        die("fcntl");
    SHOW(read(fd, buf, 10));
    SHOW(close(fd));
    SHOW(close(twin));
    SHOW(close(other));
}

static void probe(void)
{
    make_file("file", 9000);
    by_system_call();
    by_fclose();
    by_flags();
    show_file("file");
}
