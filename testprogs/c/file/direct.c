/* SPDX-License-Identifier: MIT */
/* direct.c - O_DIRECT: aligned transfers work, misaligned ones fail as the file system decides, and
 * the tail is short.
 *
 * The same calls are made by a lone task, which makes plain calls, and next to another task, where
 * the engine executes them. */
#define _GNU_SOURCE
#include "probe.h"

static int over;

static void *keep_running(void *arg)
{
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
        task_yield();
    return arg;
}

static void transfers(void)
{
    make_file("file", 3 * 4096 + 1000);
    int fd = open("file", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        exit(EXIT_SKIP);
    char *page = allocate_aligned(16384);
    SHOW(pread(fd, page, 4096, 4096));
    show_data("second page", page, 4096);
    SHOW(pread(fd, page, 4096, 3 * 4096));
    show_data("tail", page, 1000);
    SHOW(pread(fd, page, 4096, 4 * 4096));
    SHOW(pread(fd, page + 1, 4096, 0));
    SHOW(pread(fd, page, 4095, 0));
    SHOW(pread(fd, page, 4096, 1));
    SHOW(pread(fd, page, 10, 5));
    SHOW(pwrite(fd, page + 1, 4096, 0));
    SHOW(pwrite(fd, page, 100, 0));
    SHOW(pwrite(fd, page, 4096, 3));
    SHOW(read(fd, page, 16384));
    show_data("all", page, 3 * 4096 + 1000);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, page, 4096));
    SHOW(lseek(fd, 4096, SEEK_SET));
    struct iovec parts[] = { { page, 4096 }, { page + 4096, 4096 } },
                 odd[] = { { page, 512 }, { page + 7, 100 } };
    SHOW(readv(fd, parts, 2));
    show_data("two pages", page, 8192);
    SHOW(preadv(fd, odd, 2, 0));
    pattern(page, 8192, 3);
    SHOW(pwritev(fd, parts, 2, 4096));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(write(fd, page, 4096));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(fdatasync(fd));
    SHOW(pwrite(fd, page, 4096, 4 * 4096));
    SHOW(lseek(fd, 0, SEEK_END));
    /* The flag is set and cleared on an open file. */
    SHOW(fcntl(fd, F_SETFL, 0));
    SHOW(pread(fd, page + 1, 100, 7));
    SHOW(fcntl(fd, F_SETFL, O_DIRECT));
    SHOW(pread(fd, page + 1, 100, 7));
    SHOW(close(fd));
    free(page);
    show_file("file");
}

static void probe(void)
{
    transfers();
    task_t background_task = task_spawn(keep_running, NULL);
    transfers();
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    task_join(background_task);
}
