/* SPDX-License-Identifier: MIT */
/* served.c - N fibers each send a question over a socket and wait for the answer, which N other
 * fibers give, all at the same time. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/socket.h>

#include "task.h"

#define HELP                                                                        \
    "served [OPTIONS]: one client and one server task for each of N socket pairs\n" \
    "  -r N        questions per client (default 3)\n" TASK_HELP

static unsigned rounds = 3, waiting, most_waiting;
static long threads;

/* The number of threads of this process, as counted by the kernel. */
static long thread_count(void)
{
    char line[256];
    long count = 0;
    FILE *status = fopen("/proc/self/status", "re");
    if (!status)
        die("/proc/self/status");
    while (fgets(line, sizeof line, status))
        sscanf(line, "Threads: %ld", &count);
    fclose(status);
    return count;
}

static void *serve(void *arg)
{
    int fd = *(int *)arg;
    uint64_t question;
    for (;;) {
        ssize_t n = recv(fd, &question, sizeof question, MSG_WAITALL);
        if (n == 0)
            break;
        if (n != sizeof question)
            die("recv of a question");
        question = question * 3 + 1;
        if (send(fd, &question, sizeof question, 0) != sizeof question)
            die("send of an answer");
    }
    close(fd);
    return NULL;
}

static void *ask(void *arg)
{
    int fd = ((int *)arg)[-1];
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t question = (uint64_t)fd * 1000 + i, answer;
        if (send(fd, &question, sizeof question, 0) != sizeof question)
            die("send of a question");
        if (__atomic_add_fetch(&waiting, 1, __ATOMIC_RELAXED) > most_waiting)
            most_waiting = waiting;
        if (recv(fd, &answer, sizeof answer, 0) != sizeof answer)
            die("recv of an answer");
        __atomic_sub_fetch(&waiting, 1, __ATOMIC_RELAXED);
        if (answer != question * 3 + 1)
            wrong("a wrong answer");
    }
    close(fd);
    return NULL;
}

static void *all(void *arg)
{
    unsigned n = task_options.tasks;
    int(*pairs)[2] = allocate(n * sizeof *pairs);
    task_t *tasks = allocate(2 * n * sizeof *tasks);
    for (unsigned i = 0; i < n; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]))
            die("socketpair");
        tasks[2 * i] = task_spawn(ask, &pairs[i][1]);
    }
    /* All clients wait before the first server starts. */
    if (!task_options.threads && task_options.workers == 1)
        while (waiting < n)
            task_yield();
    for (unsigned i = 0; i < n; i++)
        tasks[2 * i + 1] = task_spawn(serve, &pairs[i][1]);
    for (unsigned i = 0; i < 2 * n; i++)
        task_join(tasks[i]);
    /* Pool threads stay for some seconds. */
    threads = thread_count();
    free(tasks);
    free(pairs);
    return arg;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG, { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, TASK_SHORT "r:", options, NULL)) != -1)
        if (option == 'r')
            rounds = (unsigned)number(optarg);
        else
            task_option(option, HELP);
    /* Each pair needs two descriptors, and each waiting fiber one more in the upper half of the
     * range if the shim waits on a duplicate. */
    struct rlimit limit;
    rlim_t wanted = (rlim_t)task_options.tasks * 4 + 200,
           least = (rlim_t)task_options.tasks * 2 + 200;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        die("getrlimit");
    if (limit.rlim_max < wanted) {
        /* Raises the limit, if allowed. */
        limit.rlim_max = wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) && getrlimit(RLIMIT_NOFILE, &limit))
            die("getrlimit");
    }
    if (limit.rlim_max < least) {
        fprintf(stderr, "RLIMIT_NOFILE is %lu, and %lu descriptors are needed\n",
                (unsigned long)limit.rlim_max, (unsigned long)least);
        return EXIT_SKIP;
    }
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit))
            die("setrlimit");
    }
    task_run(all, NULL);
    printf("%u served, %u rounds\n", task_options.tasks, rounds);
    if (!task_options.threads && task_options.workers == 1)
        printf("at once: %u\n", most_waiting);
    fprintf(stderr, "threads: %ld\n", threads);
    return 0;
}
