/* SPDX-License-Identifier: MIT */
/* allocate.c - allocating and freeing space of files, and calls that wait for the disk: every
 * result, error and signal, with quick and with slow calls. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "slow_lookup.h"

enum { LIMIT = 100000 };

static volatile sig_atomic_t signals;
static int pipes[2];

static void on_limit(int signal) { signals += signal == SIGXFSZ; }

static void show_size(int fd)
{
    struct stat about;
    if (fstat(fd, &about))
        die("fstat");
    printf("  size %jd, %s\n", (intmax_t)about.st_size,
           about.st_blocks ? "with blocks" : "without blocks");
}

/* posix_fallocate returns its error, and leaves errno alone. */
#define NUMBER(call)                                               \
    do {                                                           \
        slow_lookup_make();                                        \
        errno = ERRNO_UNTOUCHED;                                   \
        int number = call;                                         \
        printf("%s: %s%s\n", #call, strerror(number),              \
               errno == ERRNO_UNTOUCHED ? "" : ", errno changed"); \
    } while (0)

static void sizes(int fd)
{
    TRY(truncate("file", 5000));
    show_size(fd);
    TRY(truncate("none", 5000));
    TRY(truncate("dir", 5000));
    TRY(truncate("file", -1));
    TRY(ftruncate(fd, 300));
    show_size(fd);
    TRY(ftruncate(fd, -1));
    TRY(ftruncate(-1, 0));
    TRY(ftruncate(pipes[0], 0));
    TRY(fallocate(fd, 0, 0, 20000));
    show_size(fd);
    TRY(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 50000));
    show_size(fd);
    TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
    TRY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 20000));
    show_size(fd);
    TRY(fallocate(fd, 0, -1, 1));
    TRY(fallocate(fd, 0, 0, 0));
    TRY(fallocate(-1, 0, 0, 1));
    TRY(fallocate(pipes[1], 0, 0, 1));
    NUMBER(posix_fallocate(fd, 0, 30000));
    show_size(fd);
    NUMBER(posix_fallocate(fd, 0, 0));
    NUMBER(posix_fallocate(fd, -1, 10));
    NUMBER(posix_fallocate(-1, 0, 10));
    NUMBER(posix_fallocate(pipes[1], 0, 10));
    NUMBER(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    NUMBER(posix_fadvise(fd, 0, 0, 77));
    NUMBER(posix_fadvise(pipes[0], 0, 0, POSIX_FADV_NORMAL));
    TRY(readahead(fd, 0, 4096));
    TRY(readahead(-1, 0, 4096));
}

static void limited(int fd)
{
    struct rlimit limit = { LIMIT, RLIM_INFINITY };
    if (setrlimit(RLIMIT_FSIZE, &limit))
        die("setrlimit");
    signals = 0;
    TRY(truncate("file", LIMIT + 1));
    printf("  signals %d\n", (int)signals);
    TRY(ftruncate(fd, LIMIT + 1));
    printf("  signals %d\n", (int)signals);
    TRY(fallocate(fd, 0, 0, LIMIT + 1));
    printf("  signals %d\n", (int)signals);
    NUMBER(posix_fallocate(fd, 0, LIMIT + 1));
    printf("  signals %d\n", (int)signals);
    TRY(ftruncate(fd, LIMIT));
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_FSIZE, &limit))
        die("setrlimit");
}

static void syncs(int fd)
{
    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    memset(memory, 'm', 5000);
    TRY(msync(memory, 8192, MS_SYNC));
    TRY(msync(memory, 8192, MS_ASYNC));
    TRY(msync(memory + 1, 10, MS_SYNC));
    TRY(msync(memory, 8192, MS_SYNC | MS_ASYNC));
    if (munmap(memory, 8192))
        die("munmap");
    TRY(msync(memory, 8192, MS_SYNC));
    TRY(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    TRY(sync_file_range(fd, 0, 0,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER));
    TRY(sync_file_range(fd, -1, 0, SYNC_FILE_RANGE_WAIT_AFTER));
    TRY(sync_file_range(pipes[0], 0, 0, SYNC_FILE_RANGE_WAIT_AFTER));
    TRY(syncfs(fd));
    TRY(syncfs(-1));
    errno = ERRNO_UNTOUCHED;
    sync();
    printf("sync: %s\n", errno == ERRNO_UNTOUCHED ? "done" : "errno changed");
}

/* Mounts a file system of a megabyte if a process may have its own mounts. This must happen while
 * there is only one thread, because the namespace belongs to a thread. */
static int small_error;

__attribute__((constructor)) static void mount_small(void)
{
    if (mkdir("small", 0755) || unshare(CLONE_NEWNS) ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", "small", "tmpfs", 0, "size=1m"))
        small_error = errno;
}

static void full(void)
{
    if (small_error) {
        fprintf(stderr, "skip: the probe may not mount (%s): no full file system\n",
                strerror(small_error));
        return;
    }
    int fd = open("small/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || dup3(fd, SLOW_FD, O_CLOEXEC) < 0)
        die("small/file");
    for (lookups_are_slow = 0; lookups_are_slow < 2; lookups_are_slow++) {
        TRY(fallocate(SLOW_FD, 0, 0, 2 << 20));
        NUMBER(posix_fallocate(SLOW_FD, 0, 2 << 20));
        TRY(fallocate(SLOW_FD, 0, 0, 500000));
        show_size(fd);
        TRY(ftruncate(SLOW_FD, 0));
        show_size(fd);
        TRY(link("file", "small/link"));
        TRY(rename("file", "small/file"));
    }
    lookups_are_slow = 0;
    close(fd);
    close(SLOW_FD);
    if (umount("small"))
        die("umount");
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_limit };
    make_file("file", 1234);
    int fd = open("file", O_RDWR | O_CLOEXEC);
    if (fd < 0 || dup3(fd, SLOW_FD, O_CLOEXEC) < 0 || mkdir("dir", 0755) ||
        pipe2(pipes, O_CLOEXEC) || sigaction(SIGXFSZ, &action, NULL))
        die("setup");
    slow_lookup_begin();
    for (lookups_are_slow = 0; lookups_are_slow < 2; lookups_are_slow++) {
        sizes(fd);
        sizes(SLOW_FD);
        limited(SLOW_FD);
        syncs(SLOW_FD);
    }
    lookups_are_slow = 0;
    close(fd);
    close(SLOW_FD);
    full();
    slow_lookup_end();
}
