/* SPDX-License-Identifier: MIT */
/* crowd.c - more tasks wait in read at the same time than any queue can hold; each is woken once.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/eventfd.h>

static int event, file;
static task_barrier_t start;

static void *wait_for_one(void *arg)
{
    uint64_t value;
    char byte;
    task_barrier_wait(&start);
    if (read(event, &value, sizeof value) != sizeof value || value != 1)
        die("eventfd");
    if (pread(file, &byte, 1, *(unsigned *)arg) != 1 || byte != 'x')
        die("file");
    return NULL;
}

static void probe(void)
{
    unsigned n = task_options.tasks, *ids = allocate(n * sizeof *ids);
    task_t *tasks = allocate(n * sizeof *tasks);
    char *data = allocate(n);
    event = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    file = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (event < 0 || file < 0)
        die("setup");
    memset(data, 'x', n);
    write_full(file, data, n);
    task_barrier_init(&start, n + 1);
    for (unsigned i = 0; i < n; i++) {
        ids[i] = i;
        tasks[i] = task_spawn(wait_for_one, &ids[i]);
    }
    task_barrier_wait(&start);
    uint64_t all = n;
    if (write(event, &all, sizeof all) != sizeof all)
        die("eventfd");
    for (unsigned i = 0; i < n; i++)
        task_join(tasks[i]);
    puts("all are awake");
    free(data);
    free(tasks);
    free(ids);
}
