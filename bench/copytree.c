/* SPDX-License-Identifier: MIT */
/* copytree.c - copies a tree: opens, reads, creates, writes and closes thousands of small files,
 * many at a time. */
#define _GNU_SOURCE
#include "walk.h"

#include <sys/stat.h>

static const char usage[] =
    "copytree pool|each JOBS WORKERS FROM TO\n"
    "  pool     JOBS tasks take the files from one queue\n"
    "  each     a task for every file, at most JOBS at a time\n"
    "  WORKERS  OS threads that run the fibers\n"
    "TO is made. Remove it later: ext4 searches long for an inode after many were freed.\n"
    "Prints one line of JSON.\n";

enum { BLOCK = 1 << 16 };

static const char *style;
static unsigned jobs;
static int to_fd;
static _Atomic uint64_t files, bytes;

static void copy_directory(const char *path)
{
    if (strcmp(path, ".") && mkdirat(to_fd, path, 0755))
        die(errno, "mkdir %s", path);
}

static void copy_file(const char *path)
{
    char *block = malloc(BLOCK);
    if (!block)
        die(ENOMEM, "%s", path);
    int from = openat(walk.top_fd, path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        die(errno, "%s/%s", walk.top, path);
    int to = openat(to_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (to < 0)
        die(errno, "create %s", path);
    ssize_t n;
    while ((n = read(from, block, BLOCK)) > 0) {
        if (write(to, block, (size_t)n) != n)
            die(errno, "write %s", path);
        atomic_fetch_add_explicit(&bytes, (uint64_t)n, memory_order_relaxed);
    }
    if (n < 0)
        die(errno, "%s/%s", walk.top, path);
    if (close(to))
        die(errno, "close %s", path);
    close(from);
    free(block);
    atomic_fetch_add_explicit(&files, 1, memory_order_relaxed);
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
    if (!jobs || !workers || !is_walk_style(argv[1])) {
        fputs(usage, stderr);
        return 2;
    }
    style = argv[1];
    walk_open(argv[4]);
    if (mkdir(argv[5], 0755))
        die(errno, "%s", argv[5]);
    to_fd = open(argv[5], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to_fd < 0)
        die(errno, "%s", argv[5]);
    walk.file = copy_file;
    walk.directory = copy_directory;
    struct snapshot from = snap();
    tasks_run(workers, all, NULL);
    struct snapshot to = snap();
    say_cost(files, bytes, &from, &to);
    return 0;
}
