/* SPDX-License-Identifier: MIT */
/* demo - 128 fibers read random 4 KiB blocks of a file, past the page cache; prints the number of
 * reads per second. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <fiber.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FIBERS = 128, READS = 200, BLOCK = 4096, BLOCKS = 32768 };
static int file;

static void *reader(void *seed)
{
    unsigned random = (unsigned)(size_t)seed;
    char *buffer = aligned_alloc(BLOCK, BLOCK);
    for (int i = 0; i < READS; i++)
        if (pread(file, buffer, BLOCK, (off_t)BLOCK * (rand_r(&random) % BLOCKS)) != BLOCK)
            perror("pread"), exit(1);
    free(buffer);
    return NULL;
}

static void *all(void *unused)
{
    fiber_t *fibers[FIBERS];
    for (size_t i = 0; i < FIBERS; i++)
        fiber_create(&fibers[i], NULL, reader, (void *)i);
    for (int i = 0; i < FIBERS; i++)
        fiber_join(fibers[i], NULL);
    return unused;
}

int main(void)
{
    const char *path = "demo.tmp";
    char *block = malloc(BLOCK);
    file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < BLOCKS; i++)
        if (memset(block, i, BLOCK), write(file, block, BLOCK) != BLOCK)
            perror(path), exit(1);
    fsync(file);
    close(file);
    file = open(path, O_RDONLY | O_DIRECT);
    unlink(path);

    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    fiber_run(NULL, all, NULL, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds =
        (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("%d reads on one OS thread: %.0f a second\n", FIBERS * READS, FIBERS * READS / seconds);
    return 0;
}
