/* SPDX-License-Identifier: MIT */
/* pipes.c - pipes between two tasks: a write larger than the pipe, short reads, the end, EAGAIN,
 * EPIPE and SIGPIPE. */
#define _GNU_SOURCE
#include "probe.h"

#include <signal.h>
#include <sys/ioctl.h>

enum { LARGE = 1 << 20 };

static int ends[2];
static volatile sig_atomic_t broken_pipes;

static void on_broken_pipe(int signal) { broken_pipes += signal == SIGPIPE; }

/* A blocking write returns when all of it is in the pipe. */
static void *write_large(void *arg)
{
    char *data = allocate(LARGE);
    pattern(data, LARGE, 7);
    ssize_t n = write(ends[1], data, LARGE);
    printf("write: %zd\n", n);
    struct iovec parts[] = { { data, LARGE / 2 }, { NULL, 0 }, { data + LARGE / 2, LARGE / 2 } };
    n = writev(ends[1], parts, 3);
    printf("writev: %zd\n", n);
    free(data);
    if (close(ends[1]))
        die("close");
    return arg;
}

static void large(void)
{
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    task_t writer = task_spawn(write_large, NULL);
    char *data = allocate(2 * LARGE + 1);
    size_t n = read_full(ends[0], data, 2 * LARGE + 1);
    task_join(writer);
    printf("read: %zu\n", n);
    show_data("data", data, n);
    char byte;
    SHOW(read(ends[0], &byte, 1));
    SHOW(close(ends[0]));
    free(data);
}

static char words[3][100];
static ssize_t lengths[3];

static void *read_thrice(void *arg)
{
    lengths[0] = read(ends[0], words[0], sizeof words[0]);
    lengths[1] = read(ends[0], words[1], 3);
    lengths[2] = read(ends[0], words[2], sizeof words[2]);
    return arg;
}

/* A waiting reader gets the data of one write, or the end of file. */
static void waiting(void)
{
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    task_t reader = task_spawn(read_thrice, NULL);
    SHOW(write(ends[1], "abc", 3));
    /* The first read takes all data, so the next write must come after it. */
    int left;
    do
        task_yield();
    while (!ioctl(ends[0], FIONREAD, &left) && left > 0);
    SHOW(write(ends[1], "def", 3));
    SHOW(close(ends[1]));
    task_join(reader);
    for (int i = 0; i < 3; i++)
        printf("read %d: %zd %s\n", i, lengths[i], words[i]);
    SHOW(close(ends[0]));
}

static void nonblocking(void)
{
    static char data[100000];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) || fcntl(ends[1], F_SETPIPE_SZ, 65536) < 0)
        die("pipe2");
    SHOW(read(ends[0], data, 10));
    SHOW(write(ends[1], data, sizeof data));
    SHOW(write(ends[1], data, 10));
    SHOW(write(ends[1], data, 5000));
    SHOW(read(ends[0], data, 4096));
    SHOW(write(ends[1], data, 10));
    SHOW(read(ends[0], data, sizeof data));
    SHOW(read(ends[0], data, sizeof data));
    SHOW(read(ends[0], data, 0));
    SHOW(close(ends[1]));
    SHOW(read(ends[0], data, 10));
    SHOW(close(ends[0]));
}

static void broken(void)
{
    struct sigaction action = { .sa_handler = on_broken_pipe }, before;
    if (pipe2(ends, O_CLOEXEC) || sigaction(SIGPIPE, &action, &before))
        die("pipe2");
    close(ends[0]);
    struct iovec part = { "x", 1 };
    SHOW(write(ends[1], "x", 1));
    SHOW(writev(ends[1], &part, 1));
    SHOW(write(ends[1], "x", 0));
    printf("signals: %d\n", (int)broken_pipes);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(ends[1], "x", 1));
    printf("signals: %d\n", (int)broken_pipes);
    close(ends[1]);
    sigaction(SIGPIPE, &before, NULL);
}

static void probe(void)
{
    large();
    waiting();
    nonblocking();
    broken();
}
