/* SPDX-License-Identifier: MIT */
/* slow_lookup.h - makes the calls of a probe look slow, so that each goes to a pool thread, or
 * quick, so that none does.
 *
 * Looking up a name behind forty symbolic links, each with the maximum length of a path, takes a
 * millisecond without any wait. Descriptor SLOW_FD shares its latency average with names that are
 * looked up from the current directory. */
#ifndef SLOW_LOOKUP_H
#define SLOW_LOOKUP_H

#include <dirent.h>

#include "probe.h"

enum { SLOW_FD = 28 };

static int lookups_are_slow;
static int slow_lookup_quit[2];
static task_t slow_lookup_waiter;

static inline void *slow_lookup_wait(void *arg)
{
    char byte;
    if (read(slow_lookup_quit[0], &byte, 1) != 1)
        die("read of the pipe");
    return arg;
}

/* Creates the links in the current directory, and a second task, because the shim lets the calls of
 * a lone fiber block. */
static inline void slow_lookup_begin(void)
{
    char target[4096] = "";
    for (int i = 0; i < 40; i++) {
        size_t n = 0;
        while (n < 3900)
            n += (size_t)sprintf(target + n, "slow.d/../");
        if (i > 0)
            sprintf(target + n, "slow.%d", i - 1);
        else
            sprintf(target + n, "slow.none");
        char name[32];
        sprintf(name, "slow.%d", i);
        if (symlink(target, name))
            die("symlink %s", name);
    }
    if (mkdir("slow.d", 0777) || pipe2(slow_lookup_quit, O_CLOEXEC))
        die("slow");
    slow_lookup_waiter = task_spawn(slow_lookup_wait, NULL);
    task_yield();
}

static inline void slow_lookup_end(void)
{
    if (write(slow_lookup_quit[1], "", 1) != 1)
        die("write to the pipe");
    task_join(slow_lookup_waiter);
    for (int i = 0; i < 40; i++) {
        char name[32];
        sprintf(name, "slow.%d", i);
        if (unlink(name))
            die("unlink %s", name);
    }
    if (rmdir("slow.d"))
        die("rmdir slow.d");
}

/* Makes one slow call of each kind; none of them succeeds. */
static inline void slow_lookup_make(void)
{
    struct stat about;
    int error = errno;
    if (lookups_are_slow)
        if (!stat("slow.38", &about) || !rmdir("slow.38/none") || opendir("slow.38") ||
            !truncate("slow.38", 0))
            wrong("there is no such file");
    errno = error;
}

/* Like SHOW, but makes the call look slow first if lookups_are_slow is set. */
#define TRY(call) (slow_lookup_make(), SHOW(call))

#endif
