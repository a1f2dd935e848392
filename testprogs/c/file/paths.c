/* SPDX-License-Identifier: MIT */
/* paths.c - names and attributes of files: every result and error, with quick and with slow calls.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

#include "slow_lookup.h"

static struct stat about;
static char text[PATH_MAX];
static char too_long[5000], long_name[300];

/* An address outside of all mappings; the kernel reports EFAULT when it reads it. */
static void *volatile nowhere = (void *)16;
#define NOWHERE nowhere

static void show_about(void)
{
    printf("  type %o mode %o links %ju size %jd\n", about.st_mode & S_IFMT, about.st_mode & 07777,
           (uintmax_t)about.st_nlink, S_ISDIR(about.st_mode) ? 0 : (intmax_t)about.st_size);
    memset(&about, 0, sizeof about);
}

static void show_text(void)
{
    printf("  \"%s\"\n", text);
    memset(text, 0, sizeof text);
}

static void looks(int dir, int fd)
{
    struct statfs fs;
    struct statvfs vfs;
    struct statx all;
    TRY(stat("file", &about));
    show_about();
    TRY(lstat("link", &about));
    show_about();
    TRY(stat("link", &about));
    show_about();
    TRY(fstat(fd, &about));
    show_about();
    TRY(fstatat(dir, "inner", &about, 0));
    show_about();
    TRY(fstatat(AT_FDCWD, "link", &about, AT_SYMLINK_NOFOLLOW));
    show_about();
    TRY(fstatat(fd, "", &about, AT_EMPTY_PATH));
    show_about();
    TRY(stat("none", &about));
    TRY(stat("file/below", &about));
    TRY(stat("", &about));
    TRY(stat("loop", &about));
    TRY(stat(too_long, &about));
    TRY(stat(long_name, &about));
    TRY(stat(NOWHERE, &about));
    TRY(stat("file", NOWHERE));
    TRY(fstat(-1, &about));
    TRY(fstatat(fd, "x", &about, 0));
    TRY(fstatat(-5, "x", &about, 0));
    TRY(fstatat(AT_FDCWD, "file", &about, 0x800000));
    TRY(statx(AT_FDCWD, "file", 0, STATX_SIZE | STATX_TYPE, &all));
    printf("  size %ju\n", (uintmax_t)all.stx_size);
    TRY(statx(AT_FDCWD, "file", 0, STATX__RESERVED, &all));
    TRY(statx(AT_FDCWD, NOWHERE, 0, STATX_SIZE, &all));
    TRY(access("file", R_OK));
    TRY(access("file", 077));
    TRY(access("none", F_OK));
    TRY(eaccess("file", R_OK));
    TRY(euidaccess("none", R_OK));
    TRY(faccessat(dir, "inner", W_OK, 0));
    TRY(faccessat(dir, "none", W_OK, AT_EACCESS));
    TRY(faccessat(dir, "inner", W_OK, 0x4000000));
    TRY(statfs("file", &fs));
    TRY(statfs("none", &fs));
    TRY(fstatfs(fd, &fs));
    TRY(fstatfs(-1, &fs));
    TRY(statvfs("file", &vfs));
    TRY(fstatvfs(fd, &vfs));
    TRY(readlink("link", text, sizeof text));
    show_text();
    TRY(readlink("link", text, 2));
    show_text();
    TRY(readlink("file", text, sizeof text));
    TRY(readlink("link", NOWHERE, 10));
    TRY(readlinkat(dir, "inner", text, sizeof text));
    TRY(readlinkat(AT_FDCWD, "link", text, sizeof text));
    show_text();
    TRY(getxattr("file", "user.none", text, 10));
    TRY(getxattr("none", "user.none", text, 10));
    TRY(fgetxattr(-1, "user.none", text, 10));
    TRY(listxattr("none", text, 10));
    TRY(lgetxattr("file", "nonsense", text, 10));
}

static void paths(void)
{
    static const char *const names[] = {
        "file", "./dir/../link", "none", "loop", "file/below", ""
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        slow_lookup_make();
        errno = 0;
        char *real = realpath(names[i], text);
        char *base = real ? strrchr(real, '/') : NULL;
        printf("realpath %s: %s\n", names[i], base ? base : strerror(errno));
        slow_lookup_make();
        errno = 0;
        char *name = canonicalize_file_name(names[i]);
        base = name ? strrchr(name, '/') : NULL;
        printf("canonicalize_file_name %s: %s\n", names[i], base ? base : strerror(errno));
        free(name);
    }
    memset(text, 0, sizeof text);
}

static void changes(int dir, int fd)
{
    struct timespec times[2] = { { 5, 0 }, { 7, 0 } };
    struct timeval old_times[2] = { { 8, 0 }, { 9, 0 } };
    struct utimbuf oldest = { 10, 11 };
    TRY(mkdir("new", 0750));
    TRY(mkdir("new", 0750));
    TRY(mkdir("none/new", 0750));
    TRY(mkdir("file/new", 0750));
    TRY(mkdir(long_name, 0750));
    TRY(mkdirat(dir, "new", 0700));
    TRY(mkdirat(fd, "new", 0700));
    TRY(rename("file", "new"));
    TRY(rename("new", "file"));
    TRY(rename("none", "other"));
    TRY(rename("file", "renamed"));
    TRY(rename("dir", "dir/new/below"));
    TRY(renameat(AT_FDCWD, "renamed", dir, "moved"));
    TRY(renameat2(dir, "moved", AT_FDCWD, "file", RENAME_NOREPLACE));
    TRY(renameat2(dir, "inner", AT_FDCWD, "file", RENAME_NOREPLACE));
    TRY(renameat2(dir, "inner", AT_FDCWD, "file", RENAME_EXCHANGE));
    TRY(renameat2(dir, "inner", AT_FDCWD, "file", RENAME_EXCHANGE));
    TRY(renameat2(dir, "inner", AT_FDCWD, "file", 0x100));
    TRY(rename("file", "/dev/shm/pace.probe"));
    TRY(link("file", "hard"));
    TRY(link("file", "hard"));
    TRY(link("dir", "hard2"));
    TRY(link("file", "/dev/shm/pace.probe"));
    TRY(linkat(AT_FDCWD, "link", dir, "hard", AT_SYMLINK_FOLLOW));
    TRY(linkat(AT_FDCWD, "link", dir, "hard", 0x4000));
    TRY(symlink("target", "soft"));
    TRY(symlink("target", "soft"));
    TRY(symlink("", "soft2"));
    TRY(symlinkat("target", dir, "soft"));
    TRY(stat("file", &about));
    show_about();
    TRY(chmod("file", 0640));
    TRY(chmod("none", 0640));
    TRY(fchmod(fd, 0604));
    TRY(fchmodat(dir, "inner", 0600, 0));
    TRY(fchmodat(dir, "inner", 0600, 0x400));
    TRY(chown("file", geteuid(), getegid()));
    TRY(lchown("link", geteuid(), getegid()));
    TRY(fchown(fd, (uid_t)-1, (gid_t)-1));
    TRY(fchownat(dir, "none", 0, 0, 0));
    TRY(utimensat(dir, "inner", times, 0));
    TRY(utimensat(dir, "inner", (struct timespec[]){ { 5, -7 }, { 0, 0 } }, 0));
    TRY(futimens(fd, times));
    TRY(fstat(fd, &about));
    printf("  %jd\n", (intmax_t)about.st_mtime);
    TRY(utimes("file", old_times));
    TRY(lutimes("link", old_times));
    TRY(futimes(fd, old_times));
    TRY(futimesat(dir, "inner", old_times));
    TRY(utime("file", &oldest));
    TRY(stat("file", &about));
    printf("  %jd\n", (intmax_t)about.st_mtime);
    TRY(mkfifo("fifo", 0600));
    TRY(mkfifo("fifo", 0600));
    TRY(mkfifoat(dir, "fifo", 0600));
    TRY(mknod("node", S_IFREG | 0600, 0));
    TRY(mknod("node2", 0170000, 0));
    TRY(mknodat(dir, "node", S_IFREG | 0600, 0));
    TRY(setxattr("none", "user.x", "v", 1, 0));
    TRY(fsetxattr(-1, "user.x", "v", 1, 0));
    TRY(removexattr("file", "user.none"));
    TRY(fremovexattr(-1, "user.none"));
    TRY(unlink("fifo"));
    TRY(unlink("none"));
    TRY(unlink("dir"));
    TRY(unlink(NOWHERE));
    TRY(unlinkat(dir, "fifo", 0));
    TRY(unlinkat(dir, "new", 0));
    TRY(unlinkat(dir, "new", AT_REMOVEDIR));
    TRY(unlinkat(dir, "node", 0x4000));
    TRY(unlinkat(dir, "node", 0));
    TRY(unlinkat(dir, "hard", 0));
    TRY(unlinkat(dir, "soft", 0));
    TRY(remove("node"));
    TRY(remove("hard"));
    TRY(remove("soft"));
    TRY(rmdir("dir"));
    TRY(rmdir("file"));
    TRY(rmdir("new/."));
    TRY(remove("new"));
    TRY(rmdir("new"));
}

static void made(const char *what, int fd, const char *name)
{
    if (fd < 0) {
        printf("%s: %s\n", what, strerror(errno));
        return;
    }
    if (fstat(fd, &about))
        die("%s", what);
    printf("%s: flags %#o suffix %s\n", what, fcntl(fd, F_GETFL) & ~O_ACCMODE,
           strchr(name, '.') ? strchr(name, '.') : "");
    show_about();
    if (write(fd, "abc", 3) != 3 || close(fd) || unlink(name))
        die("%s", name);
}

/* Calls make(name) with a new name each time. */
#define MADE(make, pattern, ...)                                  \
    do {                                                          \
        char name[] = pattern;                                    \
        slow_lookup_make();                                       \
        made(#make, make(name __VA_OPT__(, ) __VA_ARGS__), name); \
    } while (0)

static void temporary(void)
{
    MADE(mkstemp, "tXXXXXX");
    MADE(mkstemp, "tXXXXX");
    MADE(mkstemp, "none/tXXXXXX");
    MADE(mkstemps, "tXXXXXX.x", 2);
    MADE(mkostemp, "tXXXXXX", O_APPEND);
    MADE(mkostemps, "tXXXXXX.yy", 3, O_SYNC);
    char dir[] = "dXXXXXX", bad[] = "none/dXXXXXX", name[] = "nXXXXXX";
    slow_lookup_make();
    printf("mkdtemp: %d\n", mkdtemp(dir) == dir && rmdir(dir) == 0);
    slow_lookup_make();
    printf("mkdtemp: %s\n", mkdtemp(bad) ? bad : strerror(errno));
    slow_lookup_make();
    printf("mktemp: %d\n", mktemp(name)[0] == 'n' && access(name, F_OK) == -1);
    slow_lookup_make();
    char *other = tempnam(".", "x");
    printf("tempnam: %d\n", other && access(other, F_OK) == -1);
    free(other);
}

static void directories(int dir)
{
    TRY(chdir("dir"));
    TRY(stat("inner", &about));
    TRY(chdir("none"));
    TRY(fchdir(-1));
    TRY(chdir(".."));
    TRY(fchdir(dir));
    TRY(stat("inner", &about));
    TRY(chdir(".."));
}

/* Makes calls as a user who lacks permission. */
static void refused(void)
{
    if (geteuid() != 0) {
        fprintf(stderr, "skip: testing permission errors needs root\n");
        return;
    }
    if (mkdir("private", 0700) || mkdir("closed", 0755) || chmod(".", 0777))
        die("mkdir");
    make_file("closed/file", 10);
    if (chmod("closed/file", 0600) || seteuid(65534))
        die("seteuid");
    TRY(stat("private/none", &about));
    TRY(eaccess("closed/file", R_OK));
    TRY(faccessat(AT_FDCWD, "closed/file", W_OK, AT_EACCESS));
    TRY(unlink("closed/file"));
    TRY(rename("closed/file", "closed/other"));
    TRY(mkdir("closed/dir", 0777));
    TRY(symlink("x", "closed/link"));
    TRY(link("closed/file", "mine"));
    TRY(chmod("closed/file", 0777));
    TRY(chown("closed/file", 65534, 65534));
    TRY(truncate("closed/file", 0));
    TRY(readlink("private/none", text, sizeof text));
    slow_lookup_make();
    printf("opendir: %s\n", opendir("private") ? "open" : strerror(errno));
    if (seteuid(0) || unlink("closed/file") || rmdir("closed") || rmdir("private"))
        die("cleaning up");
}

static void probe(void)
{
    umask(022);
    memset(too_long, 'x', sizeof too_long - 1);
    memset(long_name, 'y', sizeof long_name - 1);
    make_file("file", 1234);
    if (mkdir("dir", 0755) || symlink("file", "link") || symlink("loop", "loop"))
        die("making files");
    make_file("dir/inner", 77);
    int dir = open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        fd = open("file", O_RDWR | O_CLOEXEC);
    if (dir < 0 || fd < 0 || dup3(fd, SLOW_FD, O_CLOEXEC) < 0 ||
        dup3(dir, SLOW_FD + 64, O_CLOEXEC) < 0)
        die("opening files");
    slow_lookup_begin();
    for (lookups_are_slow = 0; lookups_are_slow < 2; lookups_are_slow++) {
        looks(dir, fd);
        looks(SLOW_FD + 64, SLOW_FD);
        paths();
        changes(dir, fd);
        changes(SLOW_FD + 64, SLOW_FD);
        temporary();
        directories(SLOW_FD + 64);
        refused();
    }
    lookups_are_slow = 0;
    slow_lookup_end();
}
