/* SPDX-License-Identifier: MIT */
/* slow_lookup.h - makes the calls of a probe look slow, so that each goes to a pool thread, or
 * quick, so that none does.
 *
 * Looking up a name behind forty symbolic links, each with the maximum length of a path, takes a
 * millisecond without any wait. Descriptor SLOW_FD shares its latency average with names that are
 * looked up from the current directory. */
#ifndef PACE_H
#define PACE_H

#include <dirent.h>

#include "probe.h"

enum { SLOW_FD = 28 };

static int pace_is_slow;
static int pace_quit[2];
static task_t pace_waiter;

static inline void *pace_wait(void *arg)
{
    char byte;
    if (read(pace_quit[0], &byte, 1) != 1)
        die("read of the pipe");
    return arg;
}

/* Creates the links in the current directory, and a second task, because the shim lets the calls of
 * a lone fiber block. */
static inline void pace_begin(void)
{
    char target[4096] = "";
    for (int i = 0; i < 40; i++) {
        size_t n = 0;
        while (n < 3900)
            n += (size_t)sprintf(target + n, "pace.d/../");
        if (i > 0)
            sprintf(target + n, "pace.%d", i - 1);
        else
            sprintf(target + n, "pace.none");
        char name[32];
        sprintf(name, "pace.%d", i);
        if (symlink(target, name))
            die("symlink %s", name);
    }
    if (mkdir("pace.d", 0777) || pipe2(pace_quit, O_CLOEXEC))
        die("pace");
    pace_waiter = task_spawn(pace_wait, NULL);
    task_yield();
}

static inline void pace_end(void)
{
    if (write(pace_quit[1], "", 1) != 1)
        die("write to the pipe");
    task_join(pace_waiter);
    for (int i = 0; i < 40; i++) {
        char name[32];
        sprintf(name, "pace.%d", i);
        if (unlink(name))
            die("unlink %s", name);
    }
    if (rmdir("pace.d"))
        die("rmdir pace.d");
}

/* Makes one slow call of each kind; none of them succeeds. */
static inline void pace_slow_down(void)
{
    struct stat about;
    int error = errno;
    if (pace_is_slow)
        if (!stat("pace.38", &about) || !rmdir("pace.38/none") || opendir("pace.38") ||
            !truncate("pace.38", 0))
            wrong("there is no such file");
    errno = error;
}

/* Like SHOW, but makes the call look slow first if pace_is_slow is set. */
#define TRY(call) (pace_slow_down(), SHOW(call))

#endif
