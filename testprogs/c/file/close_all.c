/* SPDX-License-Identifier: MIT */
/* close_all.c - closes all descriptors from 3 to the limit, as daemons do, and then works with
 * files. */
#define _GNU_SOURCE
#include "probe.h"

#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { FILES = 4, BLOCK = 4096, MANY = 20000 };

typedef int close_range_t(unsigned, unsigned, int);
typedef void closefrom_t(int);

static char expected[FILES * BLOCK];
static task_sem_t half_way, go_on;

/* New files take the lowest numbers, and no foreign data gets into them. */
static void files_after(void)
{
    char name[16], *data = allocate_aligned(BLOCK);
    int fds[FILES];
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "new%d", i);
        fds[i] = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        printf("%s is %d\n", name, fds[i]);
        pattern(data, BLOCK, (uint64_t)i);
        SHOW(write(fds[i], data, BLOCK));
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    printf("pipe is %d, %d\n", ends[0], ends[1]);
    SHOW(write(ends[1], "through", 7));
    SHOW(read(ends[0], data, BLOCK));
    int direct = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
    printf("file is %d\n", direct);
    for (int round = 0; round < 50; round++)
        for (int i = 0; i < FILES; i++) {
            if (pread(direct, data, BLOCK, i * BLOCK) != BLOCK ||
                memcmp(data, expected + i * BLOCK, BLOCK))
                wrong("file: block %d", i);
            if (lseek(fds[i], 0, SEEK_END) != BLOCK)
                wrong("file %d grew", i);
            task_yield();
        }
    for (int i = 0; i < FILES; i++) {
        SHOW(close(fds[i]));
        snprintf(name, sizeof name, "new%d", i);
        show_file(name);
    }
    SHOW(close(direct));
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
    SHOW(close(ends[1]));
    free(data);
}

/* Another task reads before the descriptors are closed, and again after it has reopened its file,
 * because descriptors belong to the process. */
static void *sibling(void *arg)
{
    char *data = allocate_aligned(BLOCK);
    for (int i = 0; i < 2; i++) {
        int fd = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
        for (int block = 0; block < FILES; block++)
            if (pread(fd, data, BLOCK, block * BLOCK) != BLOCK ||
                memcmp(data, expected + block * BLOCK, BLOCK))
                wrong("sibling: block %d", block);
        if (i == 0) {
            task_sem_post(&half_way);
            task_sem_wait(&go_on);
            printf("what was open: %ld\n", (long)pread(fd, data, BLOCK, 0));
        } else {
            SHOW(close(fd));
        }
    }
    free(data);
    return arg;
}

static void by_loop(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        die("getrlimit");
    task_t other = task_spawn(sibling, NULL);
    task_sem_wait(&half_way);
    long last = (long)limit.rlim_cur - 1, closed = 0;
    for (long fd = 3; fd <= last; fd++) {
        /* If the limit is in the millions, both ends of the range are enough. */
        if (fd == MANY && last > 2 * MANY)
            fd = last - MANY;
        if (close((int)fd) == 0)
            closed++;
        else if (errno != EBADF)
            die("close %ld", fd);
    }
    printf("closed %ld, all others EBADF\n", closed);
    task_sem_post(&go_on);
    task_join(other);
    files_after();
}

static void by_close_range(void)
{
    close_range_t *function = (close_range_t *)dlsym(RTLD_DEFAULT, "close_range");
    int fd = open("file", O_RDONLY | O_CLOEXEC);
    printf("one is %d\n", fd);
    /* Without close_range in libc or the kernel, the descriptor is closed with close. */
    if (!function || function(3, ~0U, 0))
        close(fd);
    files_after();
}

static void by_number(void)
{
    int fd = open("file", O_RDONLY | O_CLOEXEC);
    printf("one is %d\n", fd);
    if (syscall(SYS_close_range, 3, ~0U, 0))
        close(fd);
    files_after();
}

static void by_closefrom(void)
{
    closefrom_t *function = (closefrom_t *)dlsym(RTLD_DEFAULT, "closefrom");
    int fd = open("file", O_RDONLY | O_CLOEXEC);
    printf("one is %d\n", fd);
    if (function)
        function(3);
    else
        close(fd);
    files_after();
}

static void probe(void)
{
    make_file("file", sizeof expected);
    pattern(expected, sizeof expected, sizeof expected);
    int fd = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        fprintf(stderr, "no O_DIRECT here\n");
        exit(EXIT_SKIP);
    }
    if (fsync(fd) || close(fd))
        die("fsync");
    task_sem_init(&half_way, 0);
    task_sem_init(&go_on, 0);
    by_loop();
    by_close_range();
    by_number();
    by_closefrom();
}
