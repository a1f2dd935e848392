/* SPDX-License-Identifier: MIT */
/* reuse.c - a write is on its way when stdio closes the descriptor and opens another file: that file stays as it was. */
#define _GNU_SOURCE
#include "probe.h"

enum { ROUNDS = 200, SIZE = 4096 };

static int fd;
static ssize_t written;
static int write_error;
static char secret[SIZE];
static task_sem_t opened;

static void *write_synchronously(void *arg)
{
    int mine = open("right", O_RDWR | O_SYNC | O_CLOEXEC);
    if (mine < 0)
        die("right");
    fd = mine;
    task_sem_post(&opened);
    written = pwrite(mine, secret, SIZE, 0);
    write_error = errno;
    return arg;
}

/* The same round of the scheduler: what the write queued is not submitted yet. */
static void *close_and_open(void *arg)
{
    (void)arg;
    task_sem_wait(&opened);
    FILE *old = fdopen(fd, "r+");
    if (!old || fclose(old))
        die("fclose");
    FILE *other = fopen("wrong", "r+");
    if (!other)
        die("wrong");
    return other;
}

static void probe(void)
{
    static char content[SIZE], expected[SIZE];
    int wrong_touched = 0, lost = 0, other_numbers = 0, right = open("right", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    make_file("wrong", SIZE);
    pattern(expected, SIZE, SIZE);
    task_sem_init(&opened, 0);
    for (int i = 0; i < ROUNDS; i++) {
        pattern(secret, SIZE, (uint64_t)i + 1000000);
        task_t closer = task_spawn(close_and_open, NULL), writer = task_spawn(write_synchronously, NULL);
        FILE *other = task_join(closer);
        task_join(writer);
        if (pread(fileno(other), content, SIZE, 0) != SIZE)
            die("wrong");
        wrong_touched += memcmp(content, expected, SIZE) != 0;
        other_numbers += fileno(other) != fd;
        if (fclose(other) || pread(right, content, SIZE, 0) != SIZE)
            die("right");
        /* The write had the file before it was closed, or came too late and says so. */
        if (written == SIZE)
            lost += memcmp(content, secret, SIZE) != 0;
        else if (written != -1 || write_error != EBADF)
            wrong("a write of %zd: %s", written, strerror(write_error));
    }
    printf("wrong touched: %d, lost: %d, another number: %d\n", wrong_touched, lost, other_numbers);
    SHOW(close(right));
    show_file("wrong");
}
