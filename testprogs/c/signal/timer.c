/* SPDX-License-Identifier: MIT */
/* timer.c - the handler of a timer runs constantly while tasks read, write and wait: with
 * SA_RESTART this has no effect on them. */
#define _GNU_SOURCE
#include "probe.h"

#include <signal.h>
#include <sys/time.h>

enum { ROUNDS = 300, CHUNK = 3000 };

static volatile sig_atomic_t ticks;
static int ends[2], file;

static void on_tick(int signal)
{
    /* Makes a call and restores errno, as handlers do. */
    int error = errno;
    char byte = (char)signal;
    ticks++;
    if (pwrite(file, &byte, 1, 0) != 1)
        abort();
    errno = error;
}

static void *produce(void *arg)
{
    char chunk[CHUNK];
    for (int i = 0; i < ROUNDS; i++) {
        pattern(chunk, CHUNK, (uint64_t)i);
        ssize_t n = write(ends[1], chunk, CHUNK);
        if (n != CHUNK)
            wrong("a write of %zd bytes", n);
    }
    if (close(ends[1]))
        die("close");
    return arg;
}

static void *consume(void *arg)
{
    char chunk[CHUNK];
    uint64_t sum = HASH_START;
    off_t at = 4096;
    for (;;) {
        ssize_t n = read(ends[0], chunk, CHUNK);
        if (n < 0)
            die("read");
        if (n == 0)
            break;
        if (pwrite(file, chunk, (size_t)n, at) != n || pread(file, chunk, (size_t)n, at) != n)
            die("file");
        sum = hash(sum, chunk, (size_t)n);
        at += n;
    }
    printf("consumed to %jd: %016" PRIx64 "\n", (intmax_t)at, sum);
    return arg;
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
    struct itimerval every = { { 0, 300 }, { 0, 300 } }, never = { { 0, 0 }, { 0, 0 } };
    file = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || pipe2(ends, O_CLOEXEC) || sigaction(SIGALRM, &action, NULL) ||
        setitimer(ITIMER_REAL, &every, NULL))
        die("setup");
    task_t producer = task_spawn(produce, NULL), consumer = task_spawn(consume, NULL);
    task_join(producer);
    task_join(consumer);
    /* Waits until the handler has run at least once. */
    while (ticks == 0)
        task_yield();
    if (setitimer(ITIMER_REAL, &never, NULL))
        die("setitimer");
    char first;
    SHOW(pread(file, &first, 1, 0));
    printf("handler wrote %d\n", first == SIGALRM);
    SHOW(close(file));
    SHOW(close(ends[0]));
}
