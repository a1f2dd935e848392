/* SPDX-License-Identifier: MIT */
/* throughput.c - reads by many fibers, or by as many pthreads, with the same code.
 *
 * Random reads take the blocks in the order of a random permutation, so that none is read twice.
 * The phase ends when its time is over, or at the end of a file of which no block may be read
 * again. The result is one line of JSON. */
#define _GNU_SOURCE /* O_DIRECT */
#include "workload.h"

#include <sys/stat.h>

static const char usage[] =
    "throughput fibers|pthreads COUNT MILLISECONDS direct|buffered|sequential FILE\n"
    "  direct      random 4 KiB, O_DIRECT\n"
    "  buffered    random 4 KiB through the page cache, after dropping FILE from it\n"
    "  sequential  sequential 64 KiB by one reader, after dropping FILE from the page cache, with "
    "readahead\n";

struct worker {
    _Alignas(64) _Atomic uint64_t done; /* a cache line of its own */
    char *buffer;
};

static int fd, buffered, sequential;
static size_t block;
static struct worker *workers;
static unsigned bits; /* the file has 2^bits blocks */
static uint64_t seed;
static _Atomic uint64_t taken; /* number of assigned blocks */
static _Atomic int stop, exhausted;
static _Atomic uint64_t exhausted_at;

static void reader(unsigned member)
{
    struct worker *self = &workers[member];
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint64_t n = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
        if (n >> bits && buffered) {
            atomic_store(&exhausted_at, now_ns());
            atomic_store(&exhausted, 1);
            break;
        }
        ssize_t got =
            sequential ? read(fd, self->buffer, block)
                       : pread(fd, self->buffer, block, (off_t)(permuted(n, bits, seed) * block));
        if (got != (ssize_t)block)
            die(got < 0 ? errno : EIO, sequential ? "read" : "pread");
        atomic_store_explicit(&self->done,
                              atomic_load_explicit(&self->done, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    }
}

static struct workload workload = { .workers = 1, .work = reader };

static void rest_ms(uint64_t ms)
{
    if (workload.fibers) {
        fiber_sleep(ms * 1000000);
    } else {
        struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
        nanosleep(&t, NULL);
    }
}

static uint64_t reads_done(void)
{
    uint64_t reads = 0;
    for (unsigned i = 0; i < workload.count; i++)
        reads += atomic_load_explicit(&workers[i].done, memory_order_relaxed);
    return reads;
}

/* Starts the readers, lets them warm up, and measures until the time or the file is exhausted. */
static void *phase(void *arg)
{
    const uint64_t length = *(const uint64_t *)arg * 1000000;
    workload_start(&workload);
    rest_ms(length / 10000000 + 1);
    struct snapshot from = snap();
    uint64_t before = reads_done();
    while (now_ns() - from.ns < length && !atomic_load(&exhausted)) {
        uint64_t left = (length - (now_ns() - from.ns)) / 1000000;
        rest_ms(left > 20 ? 20 : left + 1);
    }
    struct snapshot to = snap();
    uint64_t reads = reads_done() - before;
    if (atomic_load(&exhausted) && atomic_load(&exhausted_at) > from.ns)
        to.ns = atomic_load(&exhausted_at); /* the last sleep ended a little later */
    unsigned long threads = status("\nThreads:");
    atomic_store(&stop, 1);
    workload_join(&workload);
    say_phase(reads, &from, &to, threads, atomic_load(&exhausted));
    return NULL;
}

static void open_file(const char *path)
{
    struct stat st;
    fd = open(path, O_RDONLY | O_CLOEXEC | (buffered ? 0 : O_DIRECT));
    if (fd < 0 || fstat(fd, &st))
        die(errno, "%s%s", path, buffered ? "" : " with O_DIRECT");
    while (((off_t)block << (bits + 1)) <= st.st_size)
        bits++;
    if (!bits)
        die(0, "%s: too small, %zu bytes at least", path, 2 * block);
    int advice = sequential ? POSIX_FADV_NORMAL : POSIX_FADV_RANDOM;
    if (buffered &&
        (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) || posix_fadvise(fd, 0, 0, advice)))
        die(0, "%s: posix_fadvise refused", path);
}

int main(int argc, char **argv)
{
    uint64_t ms = argc == 6 ? strtoull(argv[3], NULL, 10) : 0;
    workload.count = argc == 6 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    workload.fibers = argc == 6 && !strcmp(argv[1], "fibers");
    sequential = argc == 6 && !strcmp(argv[4], "sequential");
    buffered = sequential || (argc == 6 && !strcmp(argv[4], "buffered"));
    if (!ms || !workload.count || (sequential && workload.count > 1) ||
        (!workload.fibers && strcmp(argv[1], "pthreads")) ||
        (!buffered && strcmp(argv[4], "direct"))) {
        fputs(usage, stderr);
        return 2;
    }
    block = sequential ? 65536 : 4096;
    open_file(argv[5]);
    seed = fresh_seed();
    char *memory = NULL;
    if (posix_memalign((void **)&workers, 64, sizeof *workers * workload.count) ||
        posix_memalign((void **)&memory, 4096, block * workload.count))
        die(ENOMEM, "%u buffers", workload.count);
    memset(workers, 0, sizeof *workers * workload.count);
    memset(memory, 0, block * workload.count);
    for (unsigned i = 0; i < workload.count; i++)
        workers[i].buffer = memory + block * i;
    workload_run(&workload, phase, &ms);
    return 0;
}
