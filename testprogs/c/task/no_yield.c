/* SPDX-License-Identifier: MIT */
/* no_yield.c - a task whose reads never wait does not prevent a sleeper from waking. */
#define _GNU_SOURCE
#include "probe.h"

#include <time.h>

static int file;
static _Atomic int awake;

static void *read_until_awake(void *arg)
{
    char buf[4096];
    while (!awake)
        if (pread(file, buf, sizeof buf, 0) != (ssize_t)sizeof buf)
            die("pread");
    return arg;
}

static void probe(void)
{
    char block[4096] = "block";
    file = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        die("file");
    write_full(file, block, sizeof block);
    task_t hog = task_spawn(read_until_awake, NULL);
    struct timespec moment = { 0, 5000000 };
    if (task_options.threads)
        nanosleep(&moment, NULL);
    else
        fiber_sleep((uint64_t)moment.tv_nsec);
    awake = 1;
    task_join(hog);
    puts("awake");
}
