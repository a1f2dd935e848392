/* SPDX-License-Identifier: MIT */
/* pingpong.c - pairs of tasks that exchange 8 bytes over socket pairs; with --epoll, one thread
 * with an epoll loop. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "task.h"

#define HELP                                                           \
    "pingpong [OPTIONS]: N/2 pairs; prints nanoseconds a round trip\n" \
    "  -r N        round trips of a pair (default 1000)\n"             \
    "  --epoll     a loop on one thread, with no tasks at all\n" TASK_HELP

static unsigned rounds = 1000;
static int epoll_mode, (*pairs)[2];
static task_barrier_t start; /* creating the tasks is not timed */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *ping(void *arg)
{
    int fd = *(int *)arg;
    uint64_t word = 0;
    task_barrier_wait(&start);
    for (unsigned i = 0; i < rounds; i++)
        if (send(fd, &word, sizeof word, 0) != sizeof word ||
            recv(fd, &word, sizeof word, 0) != sizeof word)
            die("ping");
    return NULL;
}

static void *pong(void *arg)
{
    int fd = *(int *)arg;
    uint64_t word = 0;
    task_barrier_wait(&start);
    for (unsigned i = 0; i < rounds; i++)
        if (recv(fd, &word, sizeof word, 0) != sizeof word ||
            send(fd, &word, sizeof word, 0) != sizeof word)
            die("pong");
    return NULL;
}

/* The handwritten version: reads from and answers each end that is ready. */
static void loop(unsigned n)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    unsigned *left = allocate(2 * n * sizeof *left), alive = n;
    struct epoll_event events[128];
    uint64_t word = 0;
    for (unsigned i = 0; i < 2 * n; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data = { .u32 = i } };
        left[i] = rounds;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, pairs[i / 2][i % 2], &event))
            die("epoll_ctl");
    }
    for (unsigned i = 0; i < n; i++)
        if (send(pairs[i][0], &word, sizeof word, 0) != sizeof word)
            die("send");
    while (alive > 0) {
        int count = epoll_wait(epoll, events, 128, -1);
        for (int e = 0; e < count; e++) {
            unsigned i = events[e].data.u32;
            int fd = pairs[i / 2][i % 2];
            if (recv(fd, &word, sizeof word, MSG_DONTWAIT) != sizeof word)
                die("recv");
            left[i]--;
            if (i % 2 == 0 && left[i] == 0)
                alive--;
            else if (send(fd, &word, sizeof word, MSG_DONTWAIT) != sizeof word)
                die("send");
        }
    }
    close(epoll);
    free(left);
}

static void *all(void *arg)
{
    unsigned n = task_options.tasks / 2;
    pairs = allocate(n * sizeof *pairs);
    for (unsigned i = 0; i < n; i++)
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]))
            die("socketpair");
    task_t *tasks = allocate(2 * n * sizeof *tasks);
    double begin = now();
    if (epoll_mode)
        loop(n);
    else {
        task_barrier_init(&start, 2 * n + 1);
        for (unsigned i = 0; i < n; i++) {
            tasks[2 * i] = task_spawn(ping, &pairs[i][0]);
            tasks[2 * i + 1] = task_spawn(pong, &pairs[i][1]);
        }
        begin = now();
        task_barrier_wait(&start);
        for (unsigned i = 0; i < 2 * n; i++)
            task_join(tasks[i]);
    }
    printf("%.0f ns a round trip\n", (now() - begin) / rounds / n);
    free(tasks);
    free(pairs);
    return arg;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG,
                                             { "epoll", no_argument, &epoll_mode, 1 },
                                             { 0 } };
    int option;
    task_options.tasks = 128;
    while ((option = getopt_long(argc, argv, TASK_SHORT "r:", options, NULL)) != -1) {
        if (option == 'r')
            rounds = (unsigned)number(optarg);
        else if (option)
            task_option(option, HELP);
    }
    if (epoll_mode)
        task_options.threads = 1;
    task_run(all, NULL);
    return 0;
}
