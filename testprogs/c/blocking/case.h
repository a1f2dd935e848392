/* SPDX-License-Identifier: MIT */
/* case.h - what there is to know of a symbol that blocks: how it is called, and how those in it are
 * let go. */
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

#include "../task.h"
#include "hold.h"

enum { TASKS = 50, HOLDS = 4 };

struct blocking {
    /* of one signature, with spaces between */
    const char *names;
    /* before the calls, in the first task */
    void (*setup)(void);
    /* with the number of its task; may be made without end until it is let go */
    void (*call)(unsigned);
    /* in the first task, again and again until all have returned */
    void (*release)(void);
    /* no release: it is a time that it waits for */
    int ends_by_itself;
    /* system calls that are held until the release: what a slow disk or server would do */
    int holds[HOLDS];
    /* made on the spot while such calls are quick: those are held for some milliseconds only */
    int is_learned;
};

#define GROUP(name)                      \
    {                                    \
        name, sizeof name / sizeof *name \
    }

static task_t tasks[TASKS];

/* The symbol under test, for what has no C name, or none with these arguments. */
static void *named;
/* The same, or NULL for the function by its C name, as the compiler's options have it. */
static void *symbol;

/* CALL(type of pointer, C name, arguments): by the symbol, or by name. */
#define CALL(type, name, ...) (symbol ? ((type)symbol)(__VA_ARGS__) : name(__VA_ARGS__))

static int ends[2];

static inline void make_pipe(void)
{
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
}

/* Fills what fd writes to. */
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

/* One after another: more than is taken would fill it. */
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

/* Takes what there is out of fd, without waiting. */
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

/* For what was let go and still failed. */
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
