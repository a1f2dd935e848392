/* SPDX-License-Identifier: MIT */
/* transfer_limits.c - limits of transfers: at the end of a file, past it, with no bytes at all, and
 * with more than the kernel accepts. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/mman.h>

static char buf[10000];

static void at_the_end(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC);
    SHOW(read(fd, buf, 4000));
    SHOW(read(fd, buf, 4000));
    SHOW(read(fd, buf, 4000));
    show_data("tail", buf, 1000);
    SHOW(read(fd, buf, 4000));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pread(fd, buf, 4000, 8999));
    SHOW(pread(fd, buf, 4000, 9000));
    SHOW(pread(fd, buf, 4000, INT64_C(1) << 40));
    SHOW(lseek(fd, 20000, SEEK_SET));
    SHOW(read(fd, buf, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    struct iovec parts[] = { { buf, 500 }, { NULL, 0 }, { buf + 500, 600 } };
    SHOW(preadv(fd, parts, 3, 8000));
    SHOW(preadv(fd, parts, 3, 8700));
    show_data("parts", buf, 1100);
    SHOW(lseek(fd, -800, SEEK_END));
    SHOW(readv(fd, parts, 3));
    SHOW(readv(fd, parts, 3));
    SHOW(close(fd));
}

static void no_bytes(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct iovec none[] = { { NULL, 0 }, { buf, 0 } };
    SHOW(read(fd, buf, 0));
    SHOW(read(fd, NULL, 0));
    SHOW(write(fd, buf, 0));
    SHOW(pread(fd, buf, 0, 5));
    SHOW(pwrite(fd, buf, 0, 1 << 20));
    SHOW(readv(fd, none, 2));
    SHOW(writev(fd, none, 2));
    SHOW(readv(fd, none, 0));
    SHOW(writev(fd, none, 0));
    SHOW(preadv(fd, none, 0, 0));
    SHOW(write(null, buf, 0));
    SHOW(read(null, buf, 0));
    SHOW(read(null, buf, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(close(null));
    SHOW(close(fd));
}

/* The kernel moves at most 0x7ffff000 bytes at once; lengths beyond SSIZE_MAX are errors. */
static void too_many(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fd = open("file", O_RDWR | O_CLOEXEC);
    size_t size = (size_t)3 << 30;
    char *big = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (big == MAP_FAILED)
        die("mmap");
    SHOW(write(null, big, size));
    SHOW(write(null, big, 0x7ffff001));
    SHOW(pwrite(null, big, size, 0));
    struct iovec two[] = { { big, 0x7ffff000 }, { big, 4096 } };
    SHOW(writev(null, two, 2));
    SHOW(read(null, big, size));
    SHOW(read(fd, big, size));
    SHOW(pread(fd, big, size, 1000));
    volatile size_t negative = (size_t)-1;
    SHOW(read(fd, big, negative));
    SHOW(write(null, big, negative));
    SHOW(pread(fd, big, negative, 0));
    struct iovec wrong_length[] = { { big, 10 }, { big, negative } };
    SHOW(readv(fd, wrong_length, 2));
    SHOW(writev(null, wrong_length, 2));
    SHOW(munmap(big, size));
    SHOW(close(null));
    SHOW(close(fd));
}

static void holes(void)
{
    int fd = open("sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    SHOW(pwrite(fd, "x", 1, 100000));
    SHOW(pread(fd, buf, 10000, 95000));
    show_data("hole", buf, 5001);
    SHOW(lseek(fd, 50000, SEEK_SET));
    SHOW(write(fd, "yy", 2));
    SHOW(ftruncate(fd, 50001));
    SHOW(read(fd, buf, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(close(fd));
    show_file("sparse");
}

static void probe(void)
{
    make_file("file", 9000);
    at_the_end();
    no_bytes();
    too_many();
    holes();
    show_file("file");
}
