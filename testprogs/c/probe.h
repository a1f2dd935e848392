/* SPDX-License-Identifier: MIT */
/* probe.h - main of the probes: runs probe() on a fiber, or plainly with --threads, and prints the
 * result of each call. */
#ifndef PROBE_H
#define PROBE_H

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "task.h"

/* The headers of glibc 2.31 do not have these two. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
/* Null if libc does not have it (glibc before 2.34). */
__attribute__((weak)) pid_t _Fork(void);

/* Runs in an empty directory. The output must not contain values that differ from run to run, such
 * as descriptors. */
static void probe(void);

/* No call sets errno to this value, so a call that succeeds must leave it there. */
enum { ERRNO_UNTOUCHED = 4242 };

static inline long show_result(const char *what, long result, int error, int is_fd)
{
    if (result == -1)
        printf("%s: %s\n", what, strerror(error));
    else if (is_fd)
        printf("%s: a descriptor%s\n", what, error == ERRNO_UNTOUCHED ? "" : ", errno changed");
    else
        printf("%s: %ld%s\n", what, result, error == ERRNO_UNTOUCHED ? "" : ", errno changed");
    return result;
}

/* Makes the call and prints its text and its result or error. */
#define SHOW(call)                                \
    __extension__({                               \
        errno = ERRNO_UNTOUCHED;                  \
        long show_value = (long)(call);           \
        show_result(#call, show_value, errno, 0); \
    })

/* The same for a call that returns a descriptor; its number is not shown. */
#define SHOW_FD(call)                               \
    __extension__({                                 \
        errno = ERRNO_UNTOUCHED;                    \
        int show_fd = (call);                       \
        (int)show_result(#call, show_fd, errno, 1); \
    })

/* Prints size bytes as a hash. */
static inline void show_data(const char *what, const void *data, size_t size)
{
    printf("%s: %016" PRIx64 "\n", what, hash(HASH_START, data, size));
}

/* Fills the buffer with bytes derived from seed. */
static inline void pattern(void *buf, size_t size, uint64_t seed)
{
    uint64_t random = seed * 2 + 1;
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)buf)[i] = (unsigned char)(next_random(&random) >> 32);
}

/* Creates the file path with size bytes. */
static inline void make_file(const char *path, size_t size)
{
    char *data = allocate(size);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        die("%s", path);
    pattern(data, size, size);
    write_full(fd, data, size);
    if (close(fd))
        die("close %s", path);
    free(data);
}

/* Prints the size and the content of the file path. */
static inline void show_file(const char *path)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about))
        die("%s", path);
    char *data = allocate((size_t)about.st_size);
    size_t n = read_full(fd, data, (size_t)about.st_size);
    if (close(fd))
        die("close %s", path);
    printf("%s: %zu bytes, %016" PRIx64 "\n", path, n, hash(HASH_START, data, n));
    free(data);
}

/* Returns when a task is in its next call that waits. It has stored its thread in *id and then
 * posted about_to. With one worker, a fiber is in the call when this task runs again. For a thread,
 * the kernel must report that it waits in a system call other than futex, which would be a lock of
 * the program. */
static inline void await_call(task_sem_t *about_to, const pid_t *id)
{
    char path[64], text[64];
    int number = -1;
    task_sem_wait(about_to);
    if (!task_options.threads)
        return;
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)*id);
    do {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            die("%s", path);
        text[read_full(file, text, sizeof text - 1)] = '\0';
        close(file);
        sched_yield();
        /* The file says "running" while the thread computes. */
    } while (sscanf(text, "%d", &number) != 1 || number == SYS_futex);
}

static void *probe_task(void *arg)
{
    probe();
    return arg;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG, { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, TASK_SHORT, options, NULL)) != -1)
        task_option(option, TASK_HELP);
    /* If the probe hangs, the output so far shows where. */
    if (setvbuf(stdout, NULL, _IOLBF, 0))
        die("setvbuf");
    task_run(probe_task, NULL);
    return 0;
}

#endif
