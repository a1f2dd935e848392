/* SPDX-License-Identifier: MIT */
/* case.h - describes a blocking symbol: how to call it, and how to release the tasks that wait in
 * it. */
#ifndef BLOCKING_CASE_H
#define BLOCKING_CASE_H

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "task.h"
#include "held_syscall.h"

enum { TASKS = 50, HOLDS = 4 };

struct blocking {
    /* names with the same signature, separated by spaces */
    const char *names;
    /* runs in the first task, before the calls */
    void (*setup)(void);
    /* makes the call, with the number of its task; may repeat it endlessly until the release */
    void (*call)(unsigned);
    /* runs in the first task, repeatedly until all calls have returned */
    void (*release)(void);
    /* needs no release, because it waits for a time */
    int ends_by_itself;
    /* system calls that are held until the release, as by a slow disk or server */
    int holds[HOLDS];
    /* made inline while such calls are quick, so the first ones are held for milliseconds only */
    int is_learned;
};

#define GROUP(name)                      \
    {                                    \
        name, sizeof name / sizeof *name \
    }

static task_t tasks[TASKS];

/* The symbol under test, for functions that have no C name, or none with these arguments. */
static void *named;
/* The same symbol, or NULL to call the function by its C name, which depends on the compiler's
 * options. */
static void *symbol;

/* CALL(type of pointer, C name, arguments): calls the symbol if it is set, otherwise the name. */
#define CALL(type, name, ...) (symbol ? ((type)symbol)(__VA_ARGS__) : name(__VA_ARGS__))

static int ends[2];

static inline void make_pipe(void)
{
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
}

/* Fills the pipe or socket behind fd. */
static inline void fill(int fd)
{
    static const char zeroes[4096];
    int flags = fcntl(fd, F_GETFL);
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK))
        die("fcntl");
    for (size_t n = sizeof zeroes; n > 0; n /= 2)
        while (write(fd, zeroes, n) > 0)
            ;
    if (fcntl(fd, F_SETFL, flags))
        die("fcntl");
}

static inline void make_full_pipe(void)
{
    make_pipe();
    fill(ends[1]);
}

/* Writes only if the pipe is empty; otherwise it could fill up. */
static inline void feed(const char *text, size_t n)
{
    int there;
    if (ioctl(ends[0], FIONREAD, &there))
        die("FIONREAD");
    if (there == 0 && write(ends[1], text, n) != (ssize_t)n)
        die("write");
}

static inline void feed_pipe(void) { feed("x", 1); }

static inline void close_writer(void)
{
    if (ends[1] >= 0)
        close(ends[1]);
    ends[1] = -1;
}

/* Reads everything that is available from fd, without waiting. */
static inline void drain(int fd)
{
    static char data[65536];
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    while (read(fd, data, sizeof data) > 0)
        ;
    fcntl(fd, F_SETFL, flags);
}

static inline void drain_pipe(void) { drain(ends[0]); }

/* Ends the program if a call failed although it was released. */
static inline void must(int good, const char *what)
{
    if (!good)
        die("%s", what);
}

static char path[64] = "file";

static inline void make_one(const char *name)
{
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "some bytes\n", 11) != 11 || close(fd))
        die("%s", name);
}

#endif
