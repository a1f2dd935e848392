/* SPDX-License-Identifier: MIT */
/* pool_threads.c - many tasks each sync a file at the same time; prints the number of the shim's
 * pool threads afterwards. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>

#include "task.h"

static void *sync_often(void *arg)
{
    int fd = open(".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd < 0)
        die("a file without a name");
    for (int i = 0; i < 3; i++) {
        write_full(fd, "record\n", 7);
        if (fsync(fd))
            die("fsync");
    }
    close(fd);
    return arg;
}

/* Counts the pool threads; an idle one stays for some seconds. */
static int pool_threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        char path[300], name[16] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        int fd = task->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        read_full(fd, name, sizeof name - 1);
        count += strcmp(name, "aioshim-io\n") == 0;
        close(fd);
    }
    if (!tasks || closedir(tasks))
        die("/proc/self/task");
    return count;
}

static void *all(void *arg)
{
    char *unused = allocate(task_options.tasks);
    task_each(sync_often, unused, 1, task_options.tasks);
    printf("%d\n", pool_threads());
    free(unused);
    return arg;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG, { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, TASK_SHORT, options, NULL)) != -1)
        task_option(option, "poolbound [OPTIONS]\n" TASK_HELP);
    task_run(all, NULL);
    return 0;
}
