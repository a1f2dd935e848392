/* SPDX-License-Identifier: MIT */
/* indexer.c - walks a tree and checksums every file: opens, reads and closes thousands of small
 * files, many at a time. */
#define _GNU_SOURCE
#include "walk.h"

#include <ftw.h>

static const char usage[] =
    "indexer pool|each JOBS WORKERS warm|cold DIR\n"
    "  pool     JOBS tasks take the files from one queue\n"
    "  each     a task for every file, at most JOBS files open at a time\n"
    "  WORKERS  OS threads that run the fibers\n"
    "  warm     reads all files before it starts the clock\n"
    "  cold     drops the data of all files from the page cache before it starts the clock\n"
    "Prints one line of JSON.\n";

enum { BLOCK = 1 << 16 };

static const char *style;
static unsigned jobs;
static int cold;
static _Atomic uint64_t files, sum;

/* FNV-1a over words of eight bytes, and over the bytes of the rest. */
static uint64_t hashed(uint64_t hash, const unsigned char *bytes, size_t n)
{
    const uint64_t prime = UINT64_C(1099511628211);
    size_t at = 0;
    for (uint64_t word; at + sizeof word <= n; at += sizeof word) {
        memcpy(&word, bytes + at, sizeof word);
        hash = (hash ^ word) * prime;
    }
    for (; at < n; at++)
        hash = (hash ^ bytes[at]) * prime;
    return hash;
}

static void index_file(const char *path)
{
    unsigned char *block = malloc(BLOCK);
    if (!block)
        die(ENOMEM, "%s", path);
    int fd = openat(walk.top_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        die(errno, "%s/%s", walk.top, path);
    uint64_t hash = UINT64_C(14695981039346656037);
    ssize_t n;
    while ((n = read(fd, block, BLOCK)) > 0)
        hash = hashed(hash, block, (size_t)n);
    if (n < 0)
        die(errno, "%s/%s", walk.top, path);
    close(fd);
    free(block);
    atomic_fetch_add_explicit(&files, 1, memory_order_relaxed);
    atomic_fetch_xor_explicit(&sum, hash, memory_order_relaxed);
}

static int prepare(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    static char block[BLOCK];
    (void)st;
    (void)where;
    if (kind != FTW_F)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(errno, "%s", path);
    if (cold) {
        int error = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (error)
            die(error, "%s: posix_fadvise", path);
    } else {
        while (read(fd, block, sizeof block) > 0)
            ;
    }
    close(fd);
    return 0;
}

static void *all(void *unused)
{
    walk_tree(style, jobs);
    return unused;
}

int main(int argc, char **argv)
{
    jobs = argc == 6 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    unsigned workers = argc == 6 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    cold = argc == 6 && !strcmp(argv[4], "cold");
    if (!jobs || !workers || !is_walk_style(argv[1]) || (!cold && strcmp(argv[4], "warm"))) {
        fputs(usage, stderr);
        return 2;
    }
    style = argv[1];
    if (nftw(argv[5], prepare, 32, FTW_PHYS))
        die(errno, "%s", argv[5]);
    walk_open(argv[5]);
    walk.file = index_file;
    struct snapshot from = snap();
    tasks_run(workers, all, NULL);
    struct snapshot to = snap();
    say_cost(files, sum, &from, &to);
    return 0;
}
