/* SPDX-License-Identifier: MIT */
/* reused_descriptor.c - stdio closes a descriptor and opens another file while a write on the
 * descriptor is queued: that file must not change. */
#define _GNU_SOURCE
#include "probe.h"

enum { ROUNDS = 200, SIZE = 4096 };

static const int flags[] = { O_SYNC, O_DSYNC, O_DIRECT };

static int fd;
static char *data;
static ssize_t written;
static task_sem_t opened, go_write, go_close;

static void *write_late(void *arg)
{
    int kind = (int)((char *)arg - (char *)0) % 3,
        mine = open("right", O_RDWR | O_CLOEXEC | flags[kind]);
    if (mine < 0)
        die("right");
    fd = mine;
    task_sem_post(&opened);
    task_sem_wait(&go_write);
    written = pwrite(mine, data, SIZE, 0);
    return NULL;
}

static void *close_and_open(void *arg)
{
    (void)arg;
    task_sem_wait(&go_close);
    FILE *old = fdopen(fd, "r+");
    if (!old || fclose(old))
        die("fclose");
    FILE *other = fopen("wrong", "r+");
    if (!other)
        die("wrong");
    return other;
}

/* Both fibers of one worker run in the next round, the writer first, so its write is queued when
 * the other fiber closes the descriptor. On threads it is not possible to know that the writer is
 * in write, so the write ends first. */
static FILE *both(long round)
{
    task_t closer = task_spawn(close_and_open, NULL),
           writer = task_spawn(write_late, (char *)0 + round);
    task_sem_wait(&opened);
    task_sem_post(&go_write);
    if (task_options.threads)
        task_join(writer);
    task_sem_post(&go_close);
    if (!task_options.threads)
        task_join(writer);
    return task_join(closer);
}

static void probe(void)
{
    static char content[SIZE], expected[SIZE];
    int touched = 0, lost = 0, other_numbers = 0;
    make_file("right", SIZE);
    make_file("wrong", SIZE);
    pattern(expected, SIZE, SIZE);
    data = allocate_aligned(SIZE);
    int direct = open("right", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (direct < 0 && errno == EINVAL) {
        fprintf(stderr, "no O_DIRECT here\n");
        exit(EXIT_SKIP);
    }
    task_sem_init(&opened, 0);
    task_sem_init(&go_write, 0);
    task_sem_init(&go_close, 0);
    for (long round = 0; round < ROUNDS; round++) {
        pattern(data, SIZE, (uint64_t)round + 1000000);
        FILE *other = both(round);
        if (written != SIZE)
            wrong("round %ld: a write of %zd", round, written);
        other_numbers += fileno(other) != fd;
        if (pread(fileno(other), content, SIZE, 0) != SIZE)
            die("wrong");
        touched += memcmp(content, expected, SIZE) != 0;
        if (fclose(other))
            die("fclose");
        int right = open("right", O_RDONLY | O_CLOEXEC);
        if (right < 0 || pread(right, content, SIZE, 0) != SIZE || close(right))
            die("right");
        lost += memcmp(content, data, SIZE) != 0;
    }
    printf("touched: %d, lost: %d, under another number: %d\n", touched, lost, other_numbers);
    SHOW(close(direct));
    show_file("right");
    show_file("wrong");
}
