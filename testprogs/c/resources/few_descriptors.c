/* SPDX-License-Identifier: MIT */
/* few_descriptors.c - fibers in a process with a low limit on descriptors: fewdescriptors LIMIT
 * [FULL]
 *
 * The fibers send bytes through pipes, sleep, look up a file and fork. Then the program prints how
 * many descriptors from 3 to 9 exist that it did not open, and the numbers that it gets when it
 * opens three files. With FULL it first takes all descriptors except the ones that it needs itself.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "task.h"

static int ends[2][2];
static rlim_t most;

static void *send_and_receive(void *arg)
{
    int me = *(int *)arg;
    for (int round = 0; round < 100; round++) {
        char byte = (char)round;
        if (me == 0 && write(ends[0][1], &byte, 1) != 1)
            die("write");
        if (read(ends[me == 0][0], &byte, 1) != 1 || byte != (char)round)
            die("read");
        if (me == 1 && write(ends[1][1], &byte, 1) != 1)
            die("write");
    }
    return arg;
}

static void *sleep_and_look(void *arg)
{
    struct stat about;
    for (int i = 0; i < 5; i++) {
        usleep(1000);
        if (stat("/", &about))
            die("stat");
    }
    return arg;
}

static int low_descriptors(void)
{
    int n = 0;
    for (int fd = 3; fd < 10; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void *work(void *full)
{
    int numbers[] = { 0, 1 };
    task_t tasks[3];
    for (int i = 0; i < 2; i++)
        tasks[i] = task_spawn(send_and_receive, &numbers[i]);
    tasks[2] = task_spawn(sleep_and_look, NULL);
    for (int i = 0; i < 3; i++)
        task_join(tasks[i]);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 2; i++)
            tasks[i] = task_spawn(send_and_receive, &numbers[i]);
        for (int i = 0; i < 2; i++)
            task_join(tasks[i]);
        _exit(full ? 0 : 10 * low_descriptors());
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    printf("child: %d\n", status);
    if (full)
        return NULL;
    printf("low: %d\n", low_descriptors());
    for (int i = 0; i < 3; i++)
        printf("opened: %d\n", open("/", O_RDONLY | O_CLOEXEC));
    return NULL;
}

int main(int argc, char **argv)
{
    most = argc > 1 ? number(argv[1]) : 64;
    struct rlimit limit = { most, most };
    if (setrlimit(RLIMIT_NOFILE, &limit) || pipe(ends[0]) || pipe(ends[1]))
        die("%s descriptors", argv[1]);
    if (argc > 2)
        while (dup(0) >= 0)
            ;
    return fiber_run(NULL, work, argv[2], NULL);
}
