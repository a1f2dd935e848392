/* SPDX-License-Identifier: MIT */
/* randread.c - many tasks read random blocks of one file; prints a checksum of the data. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "task.h"

static const char help[] = "randread [options] FILE\n"
                           "  -r N        reads per task (default 100)\n"
                           "  -b N        bytes per read, a multiple of 512 (default 4096)\n"
                           "  --direct    past the page cache (O_DIRECT)\n"
                           "  --cold      through the page cache, after dropping the file from it\n"
                           "  --seed N    selects other random blocks\n" TASK_HELP;

static unsigned long reads = 100, block_size = 4096, seed = 1;
static uint64_t blocks;
static int fd;

struct reader {
    uint64_t random;
    uint64_t sum;
};

static void *read_blocks(void *arg)
{
    struct reader *reader = arg;
    char *block = allocate_aligned(block_size);
    for (unsigned long i = 0; i < reads; i++) {
        off_t at = (off_t)(next_random(&reader->random) % blocks * block_size);
        ssize_t n = pread(fd, block, block_size, at);
        if (n < 0)
            die("pread at %jd", (intmax_t)at);
        if ((size_t)n != block_size)
            wrong("pread at %jd: %zd bytes of %lu", (intmax_t)at, n, block_size);
        reader->sum += hash(HASH_START + (uint64_t)at, block, block_size);
    }
    free(block);
    return NULL;
}

static void *run(void *arg)
{
    uint64_t *sum = arg;
    struct reader *readers = allocate(task_options.tasks * sizeof *readers);
    for (unsigned i = 0; i < task_options.tasks; i++)
        readers[i].random = (seed << 32) + i + 1;
    task_each(read_blocks, readers, sizeof *readers, task_options.tasks);
    for (unsigned i = 0; i < task_options.tasks; i++)
        *sum += readers[i].sum;
    free(readers);
    return NULL;
}

static void open_file(const char *path, int direct, int cold)
{
    struct stat about;
    fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (fd < 0 && direct && errno == EINVAL) {
        fprintf(stderr, "randread: %s: no O_DIRECT here\n", path);
        exit(EXIT_SKIP);
    }
    if (fd < 0 || fstat(fd, &about))
        die("%s", path);
    blocks = (uint64_t)about.st_size / block_size;
    if (blocks == 0)
        wrong("%s: not one block of %lu bytes", path, block_size);
    if (cold) {
        /* Dirty pages would not be dropped from the cache. */
        if (fsync(fd))
            die("fsync %s", path);
        check(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), "posix_fadvise");
        check(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "posix_fadvise");
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "direct", no_argument, NULL, 'D' },
        { "cold", no_argument, NULL, 'C' },
        { "seed", required_argument, NULL, 's' },
        TASK_LONG,
        { 0 },
    };
    int option, direct = 0, cold = 0;
    while ((option = getopt_long(argc, argv, "r:b:" TASK_SHORT, options, NULL)) != -1) {
        switch (option) {
        case 'r': reads = number(optarg); break;
        case 'b': block_size = number(optarg); break;
        case 's': seed = number(optarg); break;
        case 'D': direct = 1; break;
        case 'C': cold = 1; break;
        default: task_option(option, help);
        }
    }
    if (optind + 1 != argc || block_size == 0 || block_size % 512)
        task_option('?', help);
    uint64_t sum = 0;
    open_file(argv[optind], direct, cold);
    task_run(run, &sum);
    if (close(fd))
        die("close");
    printf("reads %lu checksum %016" PRIx64 "\n", reads * task_options.tasks, sum);
    return 0;
}
