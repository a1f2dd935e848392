/* SPDX-License-Identifier: MIT */
/* open_flags.c - open, openat, creat: modes and umask, each flag that changes the result, each
 * error. */
#define _GNU_SOURCE
#include "probe.h"

static char buf[100];

static void show_mode(const char *path)
{
    struct stat about;
    if (stat(path, &about))
        die("%s", path);
    printf("%s: mode %o size %jd\n", path, about.st_mode, (intmax_t)about.st_size);
}

/* Opens the file, shows whether reading and writing work, and closes it. */
static void try_flags(const char *path, int flags)
{
    errno = ERRNO_UNTOUCHED;
    int fd = open(path, flags | O_CLOEXEC, 0600);
    printf("open %s %#o: ", path, flags);
    if (fd < 0) {
        printf("%s\n", strerror(errno));
        return;
    }
    int kept = fcntl(fd, F_GETFL), cloexec = fcntl(fd, F_GETFD);
    printf("flags %#o cloexec %d errno %s\n", kept, cloexec,
           errno == ERRNO_UNTOUCHED ? "kept" : "changed");
    SHOW(read(fd, buf, 10));
    SHOW(write(fd, "w", 1));
    SHOW(close(fd));
}

static void modes(void)
{
    mode_t before = umask(027);
    int fd = SHOW_FD(open("m1", O_CREAT | O_WRONLY | O_CLOEXEC, 0777));
    close(fd);
    fd = SHOW_FD(open("m2", O_CREAT | O_RDONLY | O_CLOEXEC, 0));
    SHOW(read(fd, buf, 10));
    SHOW(write(fd, buf, 10));
    close(fd);
    fd = SHOW_FD(creat("m3", 0666));
    SHOW(write(fd, "created", 7));
    SHOW(read(fd, buf, 10));
    close(fd);
    umask(0);
    fd = SHOW_FD(openat(AT_FDCWD, "m4", O_CREAT | O_RDWR | O_CLOEXEC, 06777));
    close(fd);
    umask(before);
    for (int i = 1; i <= 4; i++) {
        char path[] = "m0";
        path[1] = (char)('0' + i);
        show_mode(path);
    }
    fd = SHOW_FD(creat("m3", 0600));
    close(fd);
    show_mode("m3");
}

static void kinds(void)
{
    try_flags("file", O_RDONLY);
    try_flags("file", O_WRONLY);
    try_flags("file", O_RDWR | O_APPEND);
    try_flags("file", O_RDWR | O_NONBLOCK | O_SYNC);
    try_flags("file", O_RDWR | O_DSYNC | O_NOATIME | O_NOCTTY);
    try_flags("file", O_ACCMODE);
    try_flags("file", O_CREAT | O_EXCL | O_RDWR);
    try_flags("file", O_DIRECTORY);
    try_flags("file", O_PATH);
    try_flags("file", O_RDWR | 0x40000000);
    try_flags("file", O_CREAT | O_DIRECTORY);
    try_flags(".", O_RDONLY);
    try_flags(".", O_RDWR);
    try_flags(".", O_DIRECTORY | O_PATH);
    try_flags("link", O_RDONLY);
    try_flags("link", O_RDONLY | O_NOFOLLOW);
    try_flags("link", O_PATH | O_NOFOLLOW);
    try_flags("dangling", O_RDONLY);
    try_flags("dangling", O_RDWR | O_CREAT | O_EXCL);
    try_flags("dangling", O_RDWR | O_CREAT);
    try_flags("loop", O_RDONLY);
    try_flags("file/below", O_RDONLY);
    try_flags("nowhere/below", O_RDWR | O_CREAT);
    try_flags("", O_RDONLY);
    try_flags("/dev/null", O_RDWR);
    try_flags("file", O_RDWR | O_TRUNC);
    show_mode("file");
}

static void nameless(void)
{
    int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        printf("O_TMPFILE: %s\n", strerror(errno));
        return;
    }
    SHOW(write(fd, "nameless", 8));
    SHOW(pread(fd, buf, 10, 4));
    SHOW(close(fd));
    SHOW_FD(open(".", O_TMPFILE | O_RDONLY | O_CLOEXEC, 0600));
}

static void relative(void)
{
    int dir = SHOW_FD(open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int fd = SHOW_FD(openat(dir, "inside", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
    SHOW(write(fd, "inside", 6));
    close(fd);
    show_mode("dir/inside");
    fd = SHOW_FD(openat(dir, "../file", O_RDONLY | O_CLOEXEC));
    close(fd);
    SHOW_FD(openat(dir, "inside/x", O_RDONLY | O_CLOEXEC));
    SHOW_FD(openat(-1, "inside", O_RDONLY | O_CLOEXEC));
    SHOW_FD(openat(900, "inside", O_RDONLY | O_CLOEXEC));
    fd = SHOW_FD(openat(-1, "/dev/null", O_RDONLY | O_CLOEXEC));
    SHOW_FD(openat(fd, "inside", O_RDONLY | O_CLOEXEC));
    close(fd);
    close(dir);
}

static void paths(void)
{
    static char longest[5000], name[300];
    const char *volatile nowhere = (const char *)8;
    memset(name, 'n', 256);
    memset(longest, 'x', sizeof longest - 1);
    for (size_t i = 0; i < sizeof longest - 1; i += 2)
        longest[i] = '/';
    SHOW_FD(open(name, O_RDONLY | O_CLOEXEC));
    SHOW_FD(open(longest, O_RDONLY | O_CLOEXEC));
    SHOW_FD(open(nowhere, O_RDONLY | O_CLOEXEC));
    SHOW_FD(openat(AT_FDCWD, nowhere, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    SHOW_FD(creat(nowhere, 0600));
    /* The program may change the path once the call has returned. */
    char path[] = "file";
    int fd = SHOW_FD(open(path, O_RDONLY | O_CLOEXEC));
    memset(path, 'z', 4);
    SHOW(read(fd, buf, 1));
    close(fd);
    SHOW(close(fd));
}

/* Files with and without O_CLOEXEC; open returns the lowest free descriptor. */
static void numbers(void)
{
    int low = open("file", O_RDONLY | O_CLOEXEC), plain = open("file", O_RDONLY);
    printf("cloexec %d and %d\n", fcntl(low, F_GETFD), fcntl(plain, F_GETFD));
    close(low);
    int again = open("file", O_RDONLY | O_CLOEXEC);
    printf("the lowest free one: %s\n", again == low ? "yes" : "no");
    close(again);
    close(plain);
}

static void probe(void)
{
    make_file("file", 9000);
    if (mkdir("dir", 0755) || symlink("file", "link") || symlink("missing", "dangling") ||
        symlink("loop", "loop"))
        die("setup");
    modes();
    kinds();
    nameless();
    relative();
    paths();
    numbers();
}
