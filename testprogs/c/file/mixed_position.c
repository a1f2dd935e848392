/* SPDX-License-Identifier: MIT */
/* mixed_position.c - tasks read and write one record each, in turns, at the position of one open
 * file. Reads find their data in the cache; writes wait for the disk. Each record is read once or
 * written once. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>

#include "probe.h"

enum { RECORD = 4096, TASKS = 16, TURNS = 12, RECORDS = TASKS * TURNS };

static int fd;
static atomic_uint readers[RECORDS];
static atomic_uint busy;

/* A record of the file before any task has written it. */
static void fill(char *record, unsigned number)
{
    memset(record, 'r', RECORD);
    memcpy(record, &number, sizeof number);
}

static void *use_position(void *arg)
{
    unsigned task = *(unsigned *)arg;
    char record[RECORD];
    /* These tasks keep one worker each busy, until all workers have one. */
    if (!task_options.threads && task < task_options.workers) {
        busy++;
        while (busy < task_options.workers)
            ;
    }
    for (unsigned turn = 0; turn < TURNS; turn++) {
        if ((task + turn) % 4 == 0) {
            memset(record, 'w', RECORD);
            if (write(fd, record, RECORD) != RECORD)
                die("write");
            continue;
        }
        unsigned number;
        if (read(fd, record, RECORD) != RECORD)
            die("read");
        memcpy(&number, record, sizeof number);
        if (record[RECORD - 1] != 'r' || number >= RECORDS)
            wrong("a task read what another one wrote at the same position");
        readers[number]++;
    }
    return arg;
}

static void probe(void)
{
    char record[RECORD];
    fd = open("file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die("open");
    for (unsigned i = 0; i < RECORDS; i++) {
        fill(record, i);
        if (write(fd, record, RECORD) != RECORD)
            die("write");
    }
    close(fd);
    fd = open("file", O_RDWR | O_DSYNC | O_CLOEXEC);
    if (fd < 0)
        die("open");
    unsigned tasks[TASKS];
    for (unsigned i = 0; i < TASKS; i++)
        tasks[i] = i;
    task_each(use_position, tasks, sizeof *tasks, TASKS);
    printf("position %jd\n", (intmax_t)lseek(fd, 0, SEEK_CUR) / RECORD - RECORDS);
    for (unsigned i = 0; i < RECORDS; i++) {
        if (pread(fd, record, RECORD, (off_t)i * RECORD) != RECORD)
            die("pread");
        unsigned uses = readers[i] + (record[RECORD - 1] == 'w');
        if (uses != 1)
            wrong("record %u was used %u times", i, uses);
    }
    puts("each record was used once");
    close(fd);
}
