/* SPDX-License-Identifier: MIT */
/* transfer_errors.c - each error of the read and write calls: bad descriptors, bad buffers, bad
 * vectors, wrong kinds of file. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/mman.h>

static char buf[4096];

static void descriptors(void)
{
    /* A number that is never open. */
    int fds[] = { -1, 900, 1 << 30 };
    struct iovec part = { buf, 10 };
    for (int i = 0; i < 3; i++) {
        int fd = fds[i];
        SHOW(read(fd, buf, 10));
        SHOW(write(fd, buf, 10));
        SHOW(pread(fd, buf, 10, 0));
        SHOW(pwrite(fd, buf, 10, 0));
        SHOW(readv(fd, &part, 1));
        SHOW(writev(fd, &part, 1));
        SHOW(preadv(fd, &part, 1, 0));
        SHOW(pwritev(fd, &part, 1, 0));
        SHOW(preadv2(fd, &part, 1, 0, 0));
        SHOW(pwritev2(fd, &part, 1, -1, 0));
        SHOW(fsync(fd));
        SHOW(fdatasync(fd));
        SHOW(close(fd));
        SHOW(read(fd, NULL, 0));
    }
    int fd = open("file", O_RDONLY | O_CLOEXEC);
    SHOW(write(fd, buf, 10));
    SHOW(pwrite(fd, buf, 10, 0));
    SHOW(writev(fd, &part, 1));
    SHOW(close(fd));
    fd = open("file", O_WRONLY | O_CLOEXEC);
    SHOW(read(fd, buf, 10));
    SHOW(pread(fd, buf, 10, 0));
    SHOW(close(fd));
    fd = open("file", O_PATH | O_CLOEXEC);
    SHOW(read(fd, buf, 10));
    SHOW(write(fd, buf, 10));
    SHOW(fsync(fd));
    SHOW(close(fd));
}

static void buffers(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("file", O_RDWR | O_CLOEXEC), ends[2];
    if (page == MAP_FAILED || munmap(page + 4096, 4096) || pipe2(ends, O_CLOEXEC | O_NONBLOCK))
        die("mmap");
    char *volatile nowhere = (char *)8, *volatile kernel = (char *)UINT64_C(0xffff800000000000);
    SHOW(read(fd, nowhere, 10));
    SHOW(write(fd, nowhere, 10));
    SHOW(read(fd, kernel, 10));
    SHOW(write(fd, kernel, 10));
    SHOW(pread(fd, nowhere, 10, 100));
    SHOW(pwrite(fd, nowhere, 10, 100));
    SHOW(write(ends[1], nowhere, 10));
    SHOW(write(ends[1], "0123456789", 10));
    SHOW(read(ends[0], nowhere, 10));
    /* A buffer that ends early: as much as fits is transferred. */
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, page + 4000, 200));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pwrite(fd, page + 4000, 200, 0));
    struct iovec *volatile no_vector = (struct iovec *)8;
    SHOW(readv(fd, no_vector, 1));
    SHOW(writev(fd, no_vector, 1));
    struct iovec parts[] = { { page, 10 }, { nowhere, 10 }, { page, 10 } };
    SHOW(readv(fd, parts, 3));
    SHOW(preadv(fd, parts, 3, 0));
    SHOW(pwritev(fd, parts, 3, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(mprotect(page, 4096, PROT_READ));
    SHOW(read(fd, page, 10));
    SHOW(pread(fd, page, 10, 0));
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
    SHOW(close(fd));
    SHOW(munmap(page, 4096));
}

static void arguments(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC);
    struct iovec many[1025];
    for (int i = 0; i < 1025; i++)
        many[i] = (struct iovec){ buf + i, 1 };
    volatile int counts[] = { -1, 0, 1024, 1025, 1 << 30 };
    for (int i = 0; i < 5; i++) {
        SHOW(readv(fd, many, counts[i]));
        SHOW(writev(fd, many, counts[i]));
        SHOW(preadv(fd, many, counts[i], 0));
        SHOW(pwritev(fd, many, counts[i], 0));
        SHOW(preadv2(fd, many, counts[i], 0, 0));
    }
    SHOW(pread(fd, buf, 10, -1));
    SHOW(pwrite(fd, buf, 10, -1));
    SHOW(preadv(fd, many, 2, -1));
    SHOW(preadv2(fd, many, 2, -1, 0));
    SHOW(preadv2(fd, many, 2, -2, 0));
    SHOW(pwritev2(fd, many, 2, -2, 0));
    SHOW(preadv2(fd, many, 2, 0, 0x40000000));
    SHOW(pwritev2(fd, many, 2, 0, 0x40000000));
    SHOW(pwrite(fd, buf, 10, INT64_MAX));
    SHOW(pwrite(fd, buf, 10, INT64_MAX - 5));
    SHOW(pread(fd, buf, 10, INT64_MAX));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(close(fd));
}

static void kinds(void)
{
    int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        full = open("/dev/full", O_RDWR | O_CLOEXEC), ends[2];
    if (dir < 0 || full < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK))
        die("open");
    struct iovec part = { buf, 10 };
    SHOW(read(dir, buf, 10));
    SHOW(pread(dir, buf, 10, 0));
    SHOW(write(dir, buf, 10));
    SHOW(fsync(dir));
    SHOW(pread(ends[0], buf, 10, 0));
    SHOW(pwrite(ends[1], buf, 10, 0));
    SHOW(preadv(ends[0], &part, 1, 0));
    SHOW(pwritev(ends[1], &part, 1, 0));
    SHOW(preadv2(ends[0], &part, 1, -1, 0));
    SHOW(fsync(ends[0]));
    SHOW(lseek(ends[0], 0, SEEK_CUR));
    SHOW(read(ends[1], buf, 10));
    SHOW(write(ends[0], buf, 10));
    SHOW(write(full, buf, 10));
    SHOW(pwrite(full, buf, 10, 0));
    SHOW(writev(full, &part, 1));
    SHOW(read(full, buf, 10));
    SHOW(fsync(full));
    SHOW(close(dir));
    SHOW(close(full));
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
}

static void probe(void)
{
    make_file("file", 9000);
    descriptors();
    buffers();
    arguments();
    kinds();
    show_file("file");
}
