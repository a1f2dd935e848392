/* SPDX-License-Identifier: MIT */
/* exec.c - exec while other tasks wait in calls: the new program has the descriptors, the signal
 * mask and the actions that it would have without the shim, and nothing of the in-flight
 * operations. */
#define _GNU_SOURCE
#include "probe.h"

#include <signal.h>

static int ends[2];

static void *waits(void *arg)
{
    char byte;
    if (read(ends[0], &byte, 1) != 1)
        die("read");
    wrong("nobody has written");
    return arg;
}

static void *reads(void *arg)
{
    int fd = open("file", O_RDONLY | O_CLOEXEC | O_DIRECT);
    char *block = allocate_aligned(4096);
    for (off_t at = 0;; at = (at + 4096) % 65536)
        if (pread(fd, block, 4096, at) != 4096)
            die("pread");
    return arg;
}

static void probe(void)
{
    make_file("file", 65536);
    if (pipe2(ends, 0))
        die("pipe2");
    for (int i = 0; i < 3; i++)
        task_spawn(waits, NULL), task_spawn(reads, NULL);
    for (int i = 0; i < 20; i++)
        task_yield();
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    check(pthread_sigmask(SIG_BLOCK, &blocked, NULL), "pthread_sigmask");
    signal(SIGUSR2, SIG_IGN);
    errno = ERRNO_UNTOUCHED;
    SHOW(execl("./missing", "missing", (char *)0));
    execl("/bin/sh", "sh", "-c",
          "n=0; for fd in /proc/$$/fd/*; do n=$((n + 1)); done; echo $n descriptors;"
          /* Without 32 and 33, which libc reserves: they are as the parent process left them.
           */
          "sed -nE 's/^Sig(Blk|Ign|Cgt):.*(.{7})$/\\1 \\2/p' /proc/self/status; cat file | wc -c",
          (char *)0);
    die("execl");
}
