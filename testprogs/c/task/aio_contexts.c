/* SPDX-License-Identifier: MIT */
/* aio_contexts.c - counts the AIO contexts of the process by their rings in its memory: after waits
 * for a pipe, in a child that waits for a pipe, and after several fiber_runs that have synced a
 * file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/wait.h>

#include "task.h"

static int file, ends[2];

static int contexts(void)
{
    char line[512];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        die("/proc/self/maps");
    while (fgets(line, sizeof line, maps))
        n += strstr(line, "/[aio]") != NULL;
    fclose(maps);
    return n;
}

static void *read_one(void *arg)
{
    char byte;
    if (read(ends[0], &byte, 1) != 1)
        die("read");
    return arg;
}

static void wait_once(void)
{
    task_t reader = task_spawn(read_one, NULL);
    task_yield();
    if (write(ends[1], "x", 1) != 1)
        die("write");
    task_join(reader);
}

static void *wait_in_each(void *arg)
{
    wait_once();
    printf("after a wait: %d\n", contexts());
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        wait_once();
        printf("in a child: %d\n", contexts());
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child)
        die("a child");
    return arg;
}

/* Another fiber waits in the background, because a lone fiber would make the plain call. */
static void *sync_beside_another(void *arg)
{
    task_t reader = task_spawn(read_one, NULL);
    task_yield();
    if (write(file, "x", 1) != 1 || fsync(file) || write(ends[1], "x", 1) != 1)
        die("fsync");
    task_join(reader);
    return arg;
}

int main(void)
{
    file = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || pipe(ends))
        die("files");
    task_run(wait_in_each, NULL);
    for (int i = 0; i < 3; i++)
        task_run(sync_beside_another, NULL);
    printf("after fsync by 3 runs: %d\n", contexts());
    return 0;
}
