/* SPDX-License-Identifier: MIT */
/* mixed.c - serves requests of one 4 KiB read and some work, on fibers, on as many pthreads, or on
 * a smaller pool.
 *
 * Every second request reads from the half of the file that was dropped from the page cache, each
 * block of it once; the others read from the cached half. The work is a number of loop iterations,
 * the same for all variants. All members take the next request from one counter, which is a queue
 * without cost: the best case for a pool. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "work.h"
#include "workload.h"

#include <sys/stat.h>

static const char usage[] =
    "mixed calibrate\n"
    "  prints how many iterations of the loop take a microsecond: {\"turns_per_us\": N}\n"
    "mixed fibers|pthreads COUNT WORKERS REQUESTS TURNS FILE\n"
    "  COUNT     number of fibers or threads\n"
    "  WORKERS   OS threads that run the fibers\n"
    "  REQUESTS  each half of FILE needs half as many blocks of 4 KiB\n"
    "  TURNS     iterations of the loop after each read\n"
    "Prints one line of JSON. Uses only two processors.\n";

enum { BLOCK = 4096, CORES = 2 };

static struct workload workload;
static int fd;
static char *memory;
static unsigned bits; /* each half of the file has 2^bits blocks */
static uint64_t seed, requests, turns;
static _Atomic uint64_t taken;

/* Takes the fastest of many short runs, because other processes can only make them slower. */
static double turns_per_us(void)
{
    enum { TURNS = 200000 };
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 60; i++) {
        uint64_t start = now_ns();
        sink = work(TURNS);
        uint64_t took = now_ns() - start;
        best = took < best ? took : best;
    }
    return TURNS * 1e3 / (double)best;
}

static void read_block(unsigned member, uint64_t number)
{
    ssize_t got = pread(fd, memory + (size_t)BLOCK * member, BLOCK, (off_t)(number * BLOCK));
    if (got != BLOCK)
        die(got < 0 ? errno : EIO, "pread");
}

/* Makes the first call of each member before the start, because it has additional costs. */
static void prepare(unsigned member) { read_block(member, member); }

static void requests_in_turn(unsigned member)
{
    const uint64_t half = UINT64_C(1) << bits;
    uint64_t n;
    while ((n = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed)) < requests) {
        uint64_t random = permuted(n / 2, bits, seed);
        read_block(member, n % 2 ? half + random : random);
        sink = work(turns);
    }
}

static void *run(void *unused)
{
    workload_start(&workload);
    unsigned long threads = status("\nThreads:");
    workload_join(&workload);
    say_phase(requests, &workload.from, &workload.to, threads, 0);
    return unused;
}

/* Reads the first half into the page cache and drops the second half from it. */
static void open_file(const char *path)
{
    static char chunk[1 << 20];
    struct stat st;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        die(errno, "%s", path);
    while (((off_t)BLOCK << (bits + 2)) <= st.st_size)
        bits++;
    const off_t half = (off_t)BLOCK << bits;
    if (requests / 2 > (UINT64_C(1) << bits))
        die(0, "%s: too small, %llu blocks of each half are read", path,
            (unsigned long long)requests / 2);
    for (off_t at = 0; at < half; at += (off_t)sizeof chunk)
        if (pread(fd, chunk, sizeof chunk, at) <= 0)
            die(errno, "%s", path);
    if (posix_fadvise(fd, half, half, POSIX_FADV_DONTNEED) ||
        posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM))
        die(0, "%s: posix_fadvise refused", path);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "calibrate")) {
        printf("{\"turns_per_us\": %.3f}\n", turns_per_us());
        return 0;
    }
    workload = (struct workload){ .prepare = prepare, .work = requests_in_turn };
    workload.fibers = argc == 7 && !strcmp(argv[1], "fibers");
    workload.count = argc == 7 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    workload.workers = argc == 7 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    requests = argc == 7 ? strtoull(argv[4], NULL, 10) : 0;
    turns = argc == 7 ? strtoull(argv[5], NULL, 10) : 0;
    if (!workload.count || !workload.workers || !requests ||
        (!workload.fibers && strcmp(argv[1], "pthreads"))) {
        fputs(usage, stderr);
        return 2;
    }
    use_processors(CORES);
    open_file(argv[6]);
    seed = fresh_seed();
    if (posix_memalign((void **)&memory, BLOCK, (size_t)BLOCK * workload.count))
        die(ENOMEM, "%u buffers", workload.count);
    memset(memory, 0, (size_t)BLOCK * workload.count);
    workload_run(&workload, run, NULL);
    return 0;
}
