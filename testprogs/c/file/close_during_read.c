/* SPDX-License-Identifier: MIT */
/* close_during_read.c - a descriptor is closed or replaced while a task is in read on it: the read
 * continues with the old file. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/syscall.h>

static task_sem_t about_to_read;
static pid_t reader_id;
static char got[100];
static ssize_t length;

static void *read_old(void *arg)
{
    int fd = *(int *)arg;
    reader_id = (pid_t)syscall(SYS_gettid);
    task_sem_post(&about_to_read);
    length = read(fd, got, sizeof got);
    return NULL;
}

static void show_read(task_t reader)
{
    task_join(reader);
    printf("the read that was under way: %zd %.*s\n", length, length > 0 ? (int)length : 0, got);
}

static void closed(void)
{
    int ends[2];
    char byte;
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    task_t reader = task_spawn(read_old, &ends[0]);
    await_call(&about_to_read, &reader_id);
    SHOW(close(ends[0]));
    SHOW(read(ends[0], &byte, 1));
    /* The file lives as long as the read. */
    SHOW(write(ends[1], "old", 3));
    show_read(reader);
    SHOW(close(ends[1]));
}

static void replaced(void)
{
    int ends[2];
    char buf[100];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    task_t reader = task_spawn(read_old, &ends[0]);
    await_call(&about_to_read, &reader_id);
    int file = open("file", O_RDONLY | O_CLOEXEC);
    SHOW_FD(dup2(file, ends[0]));
    SHOW(read(ends[0], buf, sizeof buf));
    show_data("the file", buf, sizeof buf);
    SHOW(write(ends[1], "old", 3));
    show_read(reader);
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
    SHOW(close(file));
}

/* The writer closes its end: the reader sees the end of file. */
static void ended(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    task_t reader = task_spawn(read_old, &ends[0]);
    await_call(&about_to_read, &reader_id);
    SHOW(close(ends[1]));
    show_read(reader);
    SHOW(close(ends[0]));
}

static void probe(void)
{
    make_file("file", 9000);
    task_sem_init(&about_to_read, 0);
    closed();
    replaced();
    ended();
}
