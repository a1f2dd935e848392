/* SPDX-License-Identifier: MIT */
/* pingpong.c - pairs of fibers or threads that exchange 8 bytes over socket pairs, or one thread
 * with an epoll loop. */
#define _GNU_SOURCE
#include "workload.h"

#include <sys/epoll.h>
#include <sys/socket.h>

static const char usage[] = "pingpong fibers|pthreads|epoll PAIRS TRIPS\n"
                            "Prints the nanoseconds per round trip; each pair makes TRIPS.\n";

static unsigned trips;
static int (*pairs)[2];

static void ping(int fd)
{
    uint64_t word = 0;
    for (unsigned i = 0; i < trips; i++)
        if (send(fd, &word, sizeof word, 0) != sizeof word ||
            recv(fd, &word, sizeof word, 0) != sizeof word)
            die(errno, "ping");
}

static void pong(int fd)
{
    uint64_t word = 0;
    for (unsigned i = 0; i < trips; i++)
        if (recv(fd, &word, sizeof word, 0) != sizeof word ||
            send(fd, &word, sizeof word, 0) != sizeof word)
            die(errno, "pong");
}

static void work(unsigned member)
{
    int fd = pairs[member / 2][member % 2];
    if (member % 2)
        pong(fd);
    else
        ping(fd);
}

/* The handwritten version: reads from and answers each end that is ready. */
static void loop(unsigned n)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    unsigned *left = calloc(2 * n, sizeof *left), alive = n;
    struct epoll_event events[128];
    uint64_t word = 0;
    if (epoll < 0 || !left)
        die(errno, "epoll_create1");
    for (unsigned i = 0; i < 2 * n; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data = { .u32 = i } };
        left[i] = trips;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, pairs[i / 2][i % 2], &event))
            die(errno, "epoll_ctl");
    }
    for (unsigned i = 0; i < n; i++)
        if (send(pairs[i][0], &word, sizeof word, 0) != sizeof word)
            die(errno, "send");
    while (alive > 0) {
        int count = epoll_wait(epoll, events, 128, -1);
        for (int e = 0; e < count; e++) {
            unsigned i = events[e].data.u32;
            int fd = pairs[i / 2][i % 2];
            if (recv(fd, &word, sizeof word, MSG_DONTWAIT) != sizeof word)
                die(errno, "recv");
            left[i]--;
            if (i % 2 == 0 && left[i] == 0)
                alive--;
            else if (send(fd, &word, sizeof word, MSG_DONTWAIT) != sizeof word)
                die(errno, "send");
        }
    }
    close(epoll);
    free(left);
}

static struct workload workload = { .workers = 1, .work = work };

/* Creating the members is not timed. */
static void *all(void *arg)
{
    uint64_t begin = now_ns();
    if (workload.count) {
        workload_start(&workload);
        begin = atomic_load(&workload.started_ns);
        workload_join(&workload);
    } else {
        loop(*(unsigned *)arg);
    }
    printf("%.0f ns a round trip\n", (double)(now_ns() - begin) / trips / *(unsigned *)arg);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned n = argc == 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    trips = argc == 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    workload.fibers = argc == 4 && !strcmp(argv[1], "fibers");
    int threads = argc == 4 && !strcmp(argv[1], "pthreads");
    if (!n || !trips || (!workload.fibers && !threads && strcmp(argv[1], "epoll"))) {
        fputs(usage, stderr);
        return 2;
    }
    if (workload.fibers || threads)
        workload.count = 2 * n;
    pairs = calloc(n, sizeof *pairs);
    if (!pairs)
        die(errno, "%u pairs", n);
    for (unsigned i = 0; i < n; i++)
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]))
            die(errno, "socketpair");
    workload_run(&workload, all, &n);
    free(pairs);
    return 0;
}
