/* SPDX-License-Identifier: MIT */
/* many_opens.c - each task reads the same file at the position of its own descriptor, past the page
 * cache. */
#define _GNU_SOURCE
#include "probe.h"

enum { READERS = 64, READS = 20, BLOCK = 4096 };

static void *read_at_position(void *arg)
{
    uint64_t random = *(unsigned *)arg + 1;
    char *block = allocate_aligned(BLOCK), expected[BLOCK];
    int fd = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC),
        cached = open("file", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || cached < 0)
        die("file");
    for (int i = 0; i < READS; i++) {
        off_t at = (off_t)(next_random(&random) % READERS) * BLOCK;
        if (lseek(fd, at, SEEK_SET) != at || read(fd, block, BLOCK) != BLOCK)
            die("a read");
        if (pread(cached, expected, BLOCK, at) != BLOCK || memcmp(block, expected, BLOCK))
            wrong("the block at %ld", (long)at);
    }
    if (close(fd) || close(cached))
        die("close");
    free(block);
    return arg;
}

static void probe(void)
{
    unsigned readers[READERS];
    make_file("file", (size_t)READERS * BLOCK);
    int fd = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "no O_DIRECT here\n");
        exit(EXIT_SKIP);
    }
    for (unsigned i = 0; i < READERS; i++)
        readers[i] = i;
    task_each(read_at_position, readers, sizeof *readers, READERS);
    printf("%d reads\n", READERS * READS);
    if (close(fd))
        die("close");
}
