/* SPDX-License-Identifier: MIT */
/* many_hits.c - reads at an offset after so many from the page cache that the shim makes plain
 * calls: every result and error, files that are replaced, change or are evicted, and signals. */
#define _GNU_SOURCE
#include "probe.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { BLOCK = 4096, SIZE = 64 * BLOCK, HITS = 12000 };

static char buf[2 * SIZE];
/* Volatile, so that the compiler does not see that it points nowhere. */
static char *volatile nowhere = (char *)8;

/* As long as another fiber waits, a read is not the plain call of a lone fiber. */
static int ends[2];

static void *wait_for_end(void *arg)
{
    char byte;
    if (read(ends[0], &byte, 1) != 0)
        die("read");
    return arg;
}

static uint64_t hit(int fd)
{
    uint64_t all = HASH_START;
    for (int i = 0; i < HITS; i++) {
        if (pread(fd, buf, BLOCK, (off_t)(i % 64) * BLOCK) != BLOCK)
            die("pread");
        all = hash(all, buf, 64);
    }
    return all;
}

static void warm(int fd)
{
    printf("warm: %016" PRIx64 "\n", hit(fd));
}

/* A system call that no library sees. */
static long raw(long number, long a, long b)
{
#if defined __x86_64__
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(0)
                     : "rcx", "r11", "memory");
    return result;
#else
    long result = syscall(number, a, b, 0);
    return result < 0 ? -errno : result;
#endif
}

static void all_results(int fd)
{
    struct iovec part = { buf, 100 };
    SHOW(pread(fd, buf, 100, 0));
    show_data("block", buf, 100);
    SHOW(pread(fd, buf, 100, SIZE - 40));
    SHOW(pread(fd, buf, 100, SIZE));
    SHOW(pread(fd, buf, 100, SIZE + 12345));
    SHOW(pread(fd, buf, 100, INT64_MAX));
    SHOW(pread(fd, buf, 100, -1));
    SHOW(pread(fd, buf, 0, 0));
    SHOW(pread(fd, buf, 0, -1));
    SHOW(pread(fd, buf, sizeof buf, 100));
    show_data("long", buf, SIZE - 100);
    SHOW(pread(fd, buf, 10000, SIZE - 5000));
    SHOW(pread(fd, nowhere, 100, 0));
    SHOW(pread(fd, nowhere, 100, SIZE));
    SHOW(preadv(fd, &part, 1, 10));
    SHOW(read(fd, buf, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
}

/* The end of the memory is in the middle of the buffer. */
static void end_of_memory(int fd)
{
    char *map = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || munmap(map + BLOCK, BLOCK))
        die("mmap");
    SHOW(pread(fd, map + BLOCK - 100, 3000, 0));
    show_data("before the end", map + BLOCK - 100, 100);
    SHOW(munmap(map, BLOCK));
}

static void other_files(void)
{
    int pipe_ends[2], fd = open("file", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pipe(pipe_ends))
        die("pipe");
    SHOW(pread(-1, buf, 10, 0));
    SHOW(pread(4000, buf, 10, 0));
    SHOW(pread(pipe_ends[0], buf, 10, 0));
    warm(fd);
    /* The kernel's calls replace the file behind the back of libc. */
    if (raw(SYS_dup3, pipe_ends[0], fd) != fd)
        die("dup3");
    SHOW(pread(fd, buf, 10, 0));
    int other = open("other", O_RDONLY | O_CLOEXEC);
    if (raw(SYS_dup3, other, fd) != fd)
        die("dup3");
    SHOW(pread(fd, buf, 10, 0));
    show_data("the other file", buf, 10);
    SHOW(raw(SYS_close, fd, 0));
    SHOW(pread(fd, buf, 10, 0));
    close(other);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    fd = open(".", O_RDONLY | O_CLOEXEC);
    SHOW(pread(fd, buf, 10, 0));
    SHOW(close(fd));
    fd = open("file", O_WRONLY | O_CLOEXEC);
    SHOW(pread(fd, buf, 10, 0));
    SHOW(close(fd));
    SHOW(pread(fd, buf, 10, 0));
}

static void changes(void)
{
    int fd = open("other", O_RDWR | O_CLOEXEC);
    warm(fd);
    SHOW(pwrite(fd, "changed", 7, 50));
    SHOW(pread(fd, buf, 100, 0));
    show_data("changed", buf, 100);
    SHOW(ftruncate(fd, 120));
    SHOW(pread(fd, buf, 100, 100));
    SHOW(ftruncate(fd, SIZE));
    SHOW(pread(fd, buf, 100, 100));
    show_data("hole", buf, 100);
    SHOW(close(fd));
    fd = memfd_create("memory", MFD_CLOEXEC);
    SHOW(write(fd, buf, sizeof buf));
    warm(fd);
    SHOW(pread(fd, buf, 100, sizeof buf - 50));
    SHOW(close(fd));
}

static void evicted(int fd)
{
    for (int i = 0; i < 4; i++) {
        warm(fd);
        if (fdatasync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
            die("evict");
        uint64_t all = HASH_START;
        for (off_t at = 0; at < SIZE; at += BLOCK) {
            if (pread(fd, buf, BLOCK, at) != BLOCK)
                die("pread");
            all = hash(all, buf, BLOCK);
        }
        printf("evicted: %016" PRIx64 "\n", all);
    }
}

static sigjmp_buf away;
static volatile sig_atomic_t ticks, jumps, may_jump;
static uintptr_t stack;
static int file;

/* Reads, too, and sometimes leaves the call that it interrupted. It may run on the other task. */
static void tick(int signal)
{
    char here[64];
    (void)signal;
    if (pread(file, here, sizeof here, 128) != sizeof here)
        abort();
    ticks++;
    uintptr_t at = (uintptr_t)here;
    if (may_jump && ticks % 4 == 0 && (at > stack ? at - stack : stack - at) < 16384) {
        jumps++;
        siglongjmp(away, 1);
    }
}

static void signals(int fd)
{
    struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART }, before;
    struct itimerval fast = { { 0, 500 }, { 0, 500 } }, none = { { 0, 0 }, { 0, 0 } };
    file = fd;
    stack = (uintptr_t)&action;
    if (sigaction(SIGALRM, &action, &before) || setitimer(ITIMER_REAL, &fast, NULL))
        die("sigaction");
    uint64_t all = hit(fd);
    while (ticks < 40)
        if (hit(fd) != all)
            puts("different data");
    may_jump = 1;
    sigsetjmp(away, 1);
    while (jumps < 20)
        if (pread(fd, buf, BLOCK, 0) != BLOCK)
            die("pread");
    may_jump = 0;
    if (setitimer(ITIMER_REAL, &none, NULL) || sigaction(SIGALRM, &before, NULL))
        die("setitimer");
    puts("signals: every read was whole");
}

static void probe(void)
{
    make_file("file", SIZE);
    make_file("other", SIZE);
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    task_t waiter = task_spawn(wait_for_end, NULL);
    int fd = open("file", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        die("open");
    warm(fd);
    all_results(fd);
    end_of_memory(fd);
    other_files();
    changes();
    evicted(fd);
    if (!task_options.threads)
        signals(fd);
    else
        puts("signals: every read was whole");
    SHOW(close(fd));
    close(ends[1]);
    task_join(waiter);
    close(ends[0]);
}
