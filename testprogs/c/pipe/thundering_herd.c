/* SPDX-License-Identifier: MIT */
/* thundering_herd.c - more tasks than there are I/O threads read one stream, and each write is for
 * one of them. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/eventfd.h>

enum { READERS = 300 };

static int stream, acknowledged[2];
static size_t size;

static void *read_once(void *arg)
{
    char buf[8];
    if (read(stream, buf, size) != (ssize_t)size)
        die("read");
    write_full(acknowledged[1], "a", 1);
    return arg;
}

/* Writes for one reader at a time, and continues when that reader has received the data. */
static void feed(const char *what, const void *data)
{
    char byte;
    task_t readers[READERS];
    for (int i = 0; i < READERS; i++)
        readers[i] = task_spawn(read_once, NULL);
    for (int i = 0; i < READERS; i++) {
        write_full(stream, data, size);
        if (read(acknowledged[0], &byte, 1) != 1)
            die("the acknowledgement");
    }
    for (int i = 0; i < READERS; i++)
        task_join(readers[i]);
    printf("%s: all were served\n", what);
    if (close(stream))
        die("close");
}

static void probe(void)
{
    uint64_t one = 1;
    if (pipe2(acknowledged, O_CLOEXEC) || mkfifo("fifo", 0600))
        die("setup");
    size = 1;
    stream = open("fifo", O_RDWR | O_CLOEXEC);
    feed("fifo", "b");
    size = sizeof one;
    stream = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    /* Writes to it do not support RWF_NOWAIT; that must not affect its reads. */
    write_full(stream, &one, sizeof one);
    if (read(stream, &one, sizeof one) != sizeof one)
        die("eventfd");
    feed("eventfd", &one);
}
