/* SPDX-License-Identifier: MIT */
/* privileged.c - fibers in a program that may have more rights than its caller. Prints whether it
 * does, how many threads it has, and whether AIOSHIM_OUT is still in its environment. */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/auxv.h>

#include "task.h"

static int threads(void)
{
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        die("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(tasks));)
        n += entry->d_name[0] != '.';
    closedir(tasks);
    return n;
}

static void *work(void *arg)
{
    int ends[2];
    char byte = 'x';
    if (pipe(ends) || write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1)
        die("a pipe");
    printf("%d threads\n", threads());
    return arg;
}

int main(void)
{
    printf("secure %lu\n", getauxval(AT_SECURE));
    check(fiber_run(NULL, work, NULL, NULL), "fiber_run");
    printf("AIOSHIM_OUT is %s\n", getenv("AIOSHIM_OUT") ? "there" : "gone");
    return 0;
}
