/* SPDX-License-Identifier: MIT */
/* aliases.c - calls read, write, open, close and fsync under every name that a binary may import.
 */
#define _GNU_SOURCE
#include "probe.h"

/* The headers declare few of these names and redirect some, so each is declared here under a
 * separate name. */
#define NAME(type, symbol, ...) extern type by_##symbol(__VA_ARGS__) __asm__(#symbol)
typedef struct iovec iov;

NAME(ssize_t, read, int, void *, size_t);
NAME(ssize_t, __read, int, void *, size_t);
NAME(ssize_t, __read_chk, int, void *, size_t, size_t);
NAME(ssize_t, write, int, const void *, size_t);
NAME(ssize_t, __write, int, const void *, size_t);
NAME(ssize_t, pread, int, void *, size_t, off_t);
NAME(ssize_t, pread64, int, void *, size_t, off_t);
NAME(ssize_t, __pread64, int, void *, size_t, off_t);
NAME(ssize_t, __pread_chk, int, void *, size_t, off_t, size_t);
NAME(ssize_t, __pread64_chk, int, void *, size_t, off_t, size_t);
NAME(ssize_t, pwrite, int, const void *, size_t, off_t);
NAME(ssize_t, pwrite64, int, const void *, size_t, off_t);
NAME(ssize_t, __pwrite64, int, const void *, size_t, off_t);
NAME(ssize_t, readv, int, const iov *, int);
NAME(ssize_t, writev, int, const iov *, int);
NAME(ssize_t, preadv, int, const iov *, int, off_t);
NAME(ssize_t, preadv64, int, const iov *, int, off_t);
NAME(ssize_t, pwritev, int, const iov *, int, off_t);
NAME(ssize_t, pwritev64, int, const iov *, int, off_t);
NAME(ssize_t, preadv2, int, const iov *, int, off_t, int);
NAME(ssize_t, preadv64v2, int, const iov *, int, off_t, int);
NAME(ssize_t, pwritev2, int, const iov *, int, off_t, int);
NAME(ssize_t, pwritev64v2, int, const iov *, int, off_t, int);
NAME(int, open, const char *, int, ...);
NAME(int, open64, const char *, int, ...);
NAME(int, __open, const char *, int, ...);
NAME(int, __open64, const char *, int, ...);
NAME(int, __open_2, const char *, int);
NAME(int, __open64_2, const char *, int);
NAME(int, openat, int, const char *, int, ...);
NAME(int, openat64, int, const char *, int, ...);
NAME(int, __openat_2, int, const char *, int);
NAME(int, __openat64_2, int, const char *, int);
NAME(int, creat, const char *, mode_t);
NAME(int, creat64, const char *, mode_t);
NAME(int, close, int);
NAME(int, __close, int);
NAME(int, fsync, int);
NAME(int, fdatasync, int);

static char buf[300];
static int fd;

/* One line per name: "name: result data". */
#define CALL(symbol, ...) shown(#symbol, by_##symbol(__VA_ARGS__))
#define OPEN(symbol, ...) opened(#symbol, by_##symbol(__VA_ARGS__))

static void shown(const char *symbol, ssize_t result)
{
    printf("%s: %zd %016" PRIx64 "\n", symbol, result, hash(HASH_START, buf, sizeof buf));
}

static void opened(const char *symbol, int opened_fd)
{
    struct stat about;
    if (opened_fd < 0 || fstat(opened_fd, &about))
        die("%s", symbol);
    printf("%s: mode %o flags %#o size %jd\n", symbol, about.st_mode, fcntl(opened_fd, F_GETFL),
           (intmax_t)about.st_size);
    if (by_close(opened_fd))
        die("close");
}

static void reads(void)
{
    iov parts[] = { { buf, 10 }, { buf + 100, 20 } };
    CALL(read, fd, buf, 100);
    CALL(__read, fd, buf, 101);
    CALL(__read_chk, fd, buf, 102, sizeof buf);
    CALL(pread, fd, buf, 103, 1000);
    CALL(pread64, fd, buf, 104, 2000);
    CALL(__pread64, fd, buf, 105, 3000);
    CALL(__pread_chk, fd, buf, 106, 4000, sizeof buf);
    CALL(__pread64_chk, fd, buf, 107, 5000, sizeof buf);
    CALL(readv, fd, parts, 2);
    CALL(preadv, fd, parts, 2, 6000);
    CALL(preadv64, fd, parts, 2, 7000);
    CALL(preadv2, fd, parts, 2, 8000, 0);
    CALL(preadv64v2, fd, parts, 2, -1, 0);
}

static void writes(void)
{
    iov parts[] = { { buf, 30 }, { buf + 100, 40 } };
    CALL(write, fd, buf, 100);
    CALL(__write, fd, buf, 101);
    CALL(pwrite, fd, buf, 102, 1001);
    CALL(pwrite64, fd, buf, 103, 2002);
    CALL(__pwrite64, fd, buf, 104, 3003);
    CALL(writev, fd, parts, 2);
    CALL(pwritev, fd, parts, 2, 4004);
    CALL(pwritev64, fd, parts, 2, 5005);
    CALL(pwritev2, fd, parts, 2, 6006, 0);
    CALL(pwritev64v2, fd, parts, 2, -1, 0);
    CALL(fsync, fd);
    CALL(fdatasync, fd);
}

static void opens(void)
{
    /* If a mode is given, it must be passed on. */
    OPEN(open, "new1", O_CREAT | O_RDWR | O_CLOEXEC, 0601);
    OPEN(open64, "new2", O_CREAT | O_RDWR | O_CLOEXEC, 0602);
    OPEN(__open, "new3", O_CREAT | O_RDWR | O_CLOEXEC, 0604);
    OPEN(__open64, "new4", O_CREAT | O_RDWR | O_CLOEXEC, 0610);
    OPEN(openat, AT_FDCWD, "new5", O_CREAT | O_RDWR | O_CLOEXEC, 0620);
    OPEN(openat64, AT_FDCWD, "new6", O_CREAT | O_RDWR | O_CLOEXEC, 0640);
    OPEN(creat, "new7", 0611);
    OPEN(creat64, "new8", 0644);
    OPEN(__open_2, "file", O_RDONLY);
    OPEN(__open64_2, "file", O_WRONLY);
    OPEN(__openat_2, AT_FDCWD, "file", O_RDWR);
    OPEN(__openat64_2, AT_FDCWD, "file", O_RDONLY | O_NONBLOCK);
}

static void probe(void)
{
    umask(0);
    make_file("file", 9000);
    fd = by_open("file", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        die("file");
    reads();
    writes();
    opens();
    CALL(close, fd);
    CALL(__close, fd);
    show_file("file");
}
