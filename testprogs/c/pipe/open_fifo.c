/* SPDX-License-Identifier: MIT */
/* open_fifo.c - many tasks wait in open of a FIFO without readers; another task creates files in
 * the meantime, then the readers arrive. */
#define _GNU_SOURCE
#include "probe.h"

#include <dirent.h>

enum { OPENERS = 40, FILES = 60 };

static task_sem_t about_to_open;
static int opened;

static void fifo_name(char *name, long number) { snprintf(name, 32, "fifo%ld", number); }

static void *open_to_write(void *arg)
{
    char name[32];
    long number = (char *)arg - (char *)0;
    fifo_name(name, number);
    task_sem_post(&about_to_open);
    int fd = open(name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        die("%s", name);
    __atomic_fetch_add(&opened, 1, __ATOMIC_SEQ_CST);
    write_full(fd, name, sizeof name);
    if (close(fd))
        die("close");
    return NULL;
}

static void *create(void *arg)
{
    char name[32];
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "file%d", i);
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
            die("%s", name);
        write_full(fd, name, sizeof name);
        if (fsync(fd) || close(fd))
            die("close %s", name);
    }
    printf("%d files, openers that went on: %d\n", FILES,
           __atomic_load_n(&opened, __ATOMIC_SEQ_CST));
    return arg;
}

static void probe(void)
{
    char name[32], got[32];
    task_t tasks[OPENERS];
    task_sem_init(&about_to_open, 0);
    for (long i = 0; i < OPENERS; i++) {
        fifo_name(name, i);
        if (mkfifo(name, 0600))
            die("mkfifo");
        tasks[i] = task_spawn(open_to_write, (char *)0 + i);
    }
    for (int i = 0; i < OPENERS; i++)
        task_sem_wait(&about_to_open);
    task_join(task_spawn(create, NULL));
    for (long i = OPENERS - 1; i >= 0; i--) {
        fifo_name(name, i);
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        size_t n = read_full(fd, got, sizeof got);
        if (n != sizeof got || strcmp(got, name))
            wrong("%s: %zu bytes", name, n);
        if (close(fd))
            die("close");
    }
    for (int i = 0; i < OPENERS; i++)
        task_join(tasks[i]);
    printf("all %d openers ended\n", opened);
}
