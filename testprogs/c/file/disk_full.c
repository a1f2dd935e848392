/* SPDX-License-Identifier: MIT */
/* disk_full.c - synchronous writes at the position until no more fits: a short write reports its
 * size, and the position is where it ends.
 *
 * The limit is RLIMIT_FSIZE; if a process may have its own mounts, also a file system of a
 * megabyte. */
#define _GNU_SOURCE
#include "probe.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

enum { CHUNK = 70000, LIMIT = 1000 * 1000 };

static char data[CHUNK], content[LIMIT + 2 * CHUNK];
static volatile sig_atomic_t signals;

static void on_limit(int signal) { signals += signal == SIGXFSZ; }

/* Checks that the file contains exactly the data that was reported as written, in order. */
static void show_content(int fd, long size)
{
    ssize_t n = pread(fd, content, sizeof content, 0);
    long different = 0;
    for (long i = 0; i < n; i++)
        different += content[i] != data[i % CHUNK];
    printf("holds what was written: %d, different: %ld\n", n == size, different);
}

static void until_limit(const char *path, int flags, int by_vector)
{
    struct rlimit limit = { LIMIT, RLIM_INFINITY };
    struct iovec parts[2] = { { data, 30001 }, { data + 30001, CHUNK - 30001 } };
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    if (fd < 0 || setrlimit(RLIMIT_FSIZE, &limit))
        die("setup");
    printf("%s\n", path);
    signals = 0;
    long total = 0, last = 0, n;
    while ((n = by_vector ? writev(fd, parts, 2) : write(fd, data, CHUNK)) > 0) {
        total += last = n;
        if (lseek(fd, 0, SEEK_CUR) != total)
            wrong("after %ld the position is %jd", total, (intmax_t)lseek(fd, 0, SEEK_CUR));
        if (n < CHUNK && total < LIMIT)
            wrong("a write of %ld at %ld", n, total);
    }
    int error = errno;
    printf("wrote %ld, the last %ld, then %ld %s, signals %d\n", total, last, n, strerror(error),
           (int)signals);
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(write(fd, data, CHUNK));
    SHOW(write(fd, data, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    printf("signals: %d\n", (int)signals);
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_FSIZE, &limit))
        die("setrlimit");
    show_content(fd, total);
    SHOW(lseek(fd, -10, SEEK_END));
    SHOW(write(fd, data, 20));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(close(fd));
}

static int small_disk, mount_error;

/* Runs before there are threads, which would otherwise stay in the old namespace. */
__attribute__((constructor)) static void mount_small_disk(void)
{
    small_disk = unshare(CLONE_NEWNS) == 0 && mkdir("small", 0700) == 0 &&
                 mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                 mount("none", "small", "tmpfs", 0, "size=1m") == 0;
    mount_error = errno;
}

static void until_disk_full(const char *path, int flags)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        die("%s", path);
    printf("%s\n", path);
    long total = 0, last = 0, n;
    while ((n = write(fd, data, CHUNK)) > 0) {
        total += last = n;
        if (lseek(fd, 0, SEEK_CUR) != total)
            wrong("after %ld the position is %jd", total, (intmax_t)lseek(fd, 0, SEEK_CUR));
    }
    printf("wrote %ld, the last %ld, then %ld %s\n", total, last, n, strerror(errno));
    SHOW(write(fd, data, CHUNK));
    SHOW(pwrite(fd, data, 10, 2 * LIMIT));
    SHOW(lseek(fd, 0, SEEK_CUR));
    show_content(fd, total);
    SHOW(close(fd));
    SHOW(unlink(path));
}

/* An O_DIRECT write is cut at the limit, too; 6144 is a multiple of the sector size but not of the
 * block size. */
static void direct(void)
{
    struct rlimit limit = { 6144, RLIM_INFINITY };
    int fd = open("direct", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (fd < 0) {
        printf("no O_DIRECT here\n");
        return;
    }
    if (setrlimit(RLIMIT_FSIZE, &limit))
        die("setrlimit");
    char *block = allocate_aligned(8192);
    pattern(block, 8192, 7);
    signals = 0;
    SHOW(write(fd, block, 8192));
    printf("signals: %d\n", (int)signals);
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(write(fd, block, 4096));
    SHOW(lseek(fd, 8192, SEEK_SET));
    SHOW(write(fd, block, 4096));
    printf("signals: %d\n", (int)signals);
    SHOW(lseek(fd, 0, SEEK_CUR));
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_FSIZE, &limit))
        die("setrlimit");
    SHOW(close(fd));
    free(block);
    show_file("direct");
}

/* A device that is always full. */
static void device(void)
{
    int fd = open("/dev/full", O_RDWR | O_SYNC | O_CLOEXEC);
    SHOW(write(fd, data, 10));
    SHOW(pwrite(fd, data, 10, 0));
    SHOW(write(fd, data, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(close(fd));
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_limit };
    if (sigaction(SIGXFSZ, &action, NULL))
        die("sigaction");
    pattern(data, CHUNK, 1);
    until_limit("buffered", 0, 0);
    until_limit("synchronous", O_SYNC, 0);
    until_limit("synchronous vectors", O_SYNC, 1);
    until_limit("data synchronous", O_DSYNC, 0);
    until_limit("appending", O_SYNC | O_APPEND, 0);
    direct();
    device();
    if (small_disk) {
        until_disk_full("small/buffered", 0);
        until_disk_full("small/synchronous", O_SYNC);
    } else {
        fprintf(stderr, "skip: the probe may not mount (%s): no full disk, only limits\n",
                strerror(mount_error));
    }
}
