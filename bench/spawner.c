/* SPDX-License-Identifier: MIT */
/* spawner.c - runs many short programs, some at a time, and collects their output, as a build tool
 * runs a compiler. */
#define _GNU_SOURCE
#include "tasks.h"

#include <sys/wait.h>

static const char usage[] = "spawner JOBS WORKERS RUNS\n"
                            "  JOBS     number of tasks, each of which runs one program at a time\n"
                            "  WORKERS  OS threads that run the fibers\n"
                            "  RUNS     number of programs that are run\n"
                            "Prints one line of JSON. Its CPU time is without that of the programs "
                            "that it runs.\n";

static unsigned jobs;
static uint64_t runs;
static _Atomic uint64_t taken, bytes;

/* Runs a program and reads its output to the end. Returns the number of bytes. */
static uint64_t run_one(void)
{
    char *const argv[] = { "/bin/echo", "compiled", NULL };
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC))
        die(errno, "pipe2");
    pid_t pid = fork();
    if (pid < 0)
        die(errno, "fork");
    if (pid == 0) {
        if (dup2(ends[1], 1) == 1)
            execv(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    char block[4096];
    uint64_t all = 0;
    ssize_t n;
    while ((n = read(ends[0], block, sizeof block)) > 0)
        all += (uint64_t)n;
    if (n < 0)
        die(errno, "read");
    close(ends[0]);
    if (waitpid(pid, &status, 0) != pid)
        die(errno, "waitpid");
    if (status)
        die(0, "%s: ended with status %#x", argv[0], (unsigned)status);
    return all;
}

static void spawn(unsigned member)
{
    (void)member;
    while (atomic_fetch_add(&taken, 1) < runs)
        atomic_fetch_add(&bytes, run_one());
}

static void *all(void *unused)
{
    task_crew_run(jobs, spawn);
    return unused;
}

int main(int argc, char **argv)
{
    jobs = argc == 4 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    unsigned workers = argc == 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    runs = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    if (!jobs || !workers || !runs) {
        fputs(usage, stderr);
        return 2;
    }
    struct snapshot from = snap();
    tasks_run(workers, all, NULL);
    struct snapshot to = snap();
    say_cost(runs, bytes, &from, &to);
    return 0;
}
