/* SPDX-License-Identifier: MIT */
/* errno.c - each task has its own errno, which is kept while the task waits and others fail. */
#define _GNU_SOURCE
#include "probe.h"

enum { ROUNDS = 200 };

static int file, ends[2];

static void expect(int error, const char *when)
{
    if (errno != error)
        wrong("errno %d, not %d %s", errno, error, when);
}

static void *fail_and_wait(void *arg)
{
    unsigned id = *(unsigned *)arg;
    char *page = allocate_aligned(4096);
    for (int i = 0; i < ROUNDS; i++) {
        int error;
        switch ((id + (unsigned)i) % 4) {
        case 0: error = read(-1, page, 1) < 0 ? EBADF : 0; break;
        case 1: error = pread(ends[0], page, 1, 0) < 0 ? ESPIPE : 0; break;
        case 2: error = open("nowhere", O_RDONLY | O_CLOEXEC) < 0 ? ENOENT : 0; break;
        default: error = pread(file, page, 4096, -1) < 0 ? EINVAL : 0;
        }
        expect(error, "after the failure");
        if (pread(file, page, 4096, (off_t)(id % 4) * 4096) != 4096)
            die("pread");
        expect(error, "after a read that worked");
        task_yield();
        expect(error, "after a yield");
    }
    free(page);
    return NULL;
}

static void probe(void)
{
    make_file("file", 4 * 4096);
    file = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (file < 0)
        exit(EXIT_SKIP);
    unsigned n = task_options.tasks, *ids = allocate(n * sizeof *ids);
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    for (unsigned i = 0; i < n; i++)
        ids[i] = i;
    task_each(fail_and_wait, ids, sizeof *ids, n);
    puts("each had its own");
    free(ids);
}
