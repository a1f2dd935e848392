/* SPDX-License-Identifier: MIT */
/* cold_tail.c - reads files of which only the first page is in the page cache. Each read returns
 * all of its bytes, and a read across the end of its file returns the bytes up to the end. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/uio.h>

#include "probe.h"

enum { TASKS = 8, PAGE = 4096, SIZE = 16 * PAGE + 100, ROUNDS = 6 };

/* Drops a file from the cache, except for its first page. */
static void cool(int fd)
{
    char page[PAGE];
    if (fsync(fd))
        die("fsync");
    check(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), "posix_fadvise");
    check(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "posix_fadvise");
    if (pread(fd, page, PAGE, 0) != PAGE)
        die("pread");
    if (lseek(fd, 0, SEEK_SET))
        die("lseek");
}

static ssize_t read_some(int how, int fd, char *buffer, size_t n)
{
    struct iovec parts[2] = { { buffer, 100 }, { buffer + 100, n - 100 } };
    switch (how) {
    case 0: return read(fd, buffer, n);
    case 1: return pread(fd, buffer, n, 0);
    default: return readv(fd, parts, 2);
    }
}

static void *read_cold(void *arg)
{
    unsigned task = *(unsigned *)arg;
    char path[32], *buffer = allocate(2 * SIZE);
    snprintf(path, sizeof path, "file%u", task);
    make_file(path, SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = round < ROUNDS / 2 ? 16 * PAGE : 2 * SIZE;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            die("open");
        cool(fd);
        task_yield();
        ssize_t found = read_some(round % 3, fd, buffer, n);
        if (found != (ssize_t)(n < SIZE ? n : SIZE))
            wrong("task %u, round %d: %zd of %zu bytes", task, round, found, n);
        close(fd);
    }
    free(buffer);
    return arg;
}

static void probe(void)
{
    unsigned tasks[TASKS];
    for (unsigned i = 0; i < TASKS; i++)
        tasks[i] = i;
    task_each(read_cold, tasks, sizeof *tasks, TASKS);
    puts("all bytes were read");
}
