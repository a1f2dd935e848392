/* SPDX-License-Identifier: MIT */
/* requests.c - requests of one read and some work, for a fixed time, by fibers or by pthreads on a
 * fixed number of processors.
 *
 * It tells what the study needs of each way: the rate, the latency of every read, the CPU time, and
 * the memory of a member that waits in a read. */
#define _GNU_SOURCE /* O_DIRECT, sched_setaffinity */
#include "work.h"
#include "workload.h"

#include <sys/stat.h>

static const char usage[] =
    "requests fibers|pthreads COUNT WORKERS PROCESSORS MS SIZE cached|cold|direct TURNS FILE\n"
    "  COUNT       number of fibers, on WORKERS OS threads, or of threads\n"
    "  PROCESSORS  number of processors that the program may use\n"
    "  SIZE        bytes of each read, a power of 2\n"
    "  cached      read from a part of FILE that is in the page cache\n"
    "  cold        drop FILE from the page cache before; ends early when all of it was read\n"
    "  direct      O_DIRECT\n"
    "  TURNS       iterations of the loop of work after each read\n"
    "Prints two lines of JSON: the cost, and the latencies of the reads as [ns, number] with the\n"
    "bytes of memory that the members added.\n";

enum { CACHED_BYTES = 16 << 20, ALIGNMENT = 4096 };

/* A bucket holds values that agree in their highest STEP_BITS + 1 bits, so it is exact to 3 %. */
enum { STEP_BITS = 5, BUCKETS = 64 << STEP_BITS };
static _Atomic uint32_t latencies[BUCKETS];

static struct workload workload = { .workers = 1 };
static int fd;
static char *memory;
static size_t size, stride; /* of a read, and of a member's buffer */
static unsigned bits;       /* 2^bits blocks are read */
static int each_once;
static uint64_t seed, turns, length_ns;
static _Atomic uint64_t taken, done, end_ns;
static _Atomic int exhausted;
static unsigned long memory_before, stacks_before, memory_added, stacks_added; /* KiB */

static void record(uint64_t ns)
{
    unsigned top = ns >> STEP_BITS ? 63 - (unsigned)__builtin_clzll(ns) - STEP_BITS : 0;
    unsigned bucket = (top << STEP_BITS) + (unsigned)(ns >> top);
    atomic_fetch_add_explicit(&latencies[bucket], 1, memory_order_relaxed);
}

/* The highest value of a bucket. */
static uint64_t highest(unsigned bucket)
{
    unsigned top = bucket >> STEP_BITS;
    if (top <= 1)
        return bucket;
    top--;
    return ((uint64_t)(bucket - (top << STEP_BITS)) + 1) * (UINT64_C(1) << top) - 1;
}

static void read_block(unsigned member, uint64_t number)
{
    ssize_t got = pread(fd, memory + stride * member, size, (off_t)(number * size));
    if (got != (ssize_t)size)
        die(got < 0 ? errno : EIO, "pread");
}

/* Makes the first call of each member before the start, because it has additional costs. */
static void prepare(unsigned member) { read_block(member, member & ((1u << bits) - 1)); }

static void requests(unsigned member)
{
    uint64_t reads = 0, now = now_ns(), not_yet = 0;
    atomic_compare_exchange_strong(&end_ns, &not_yet, now + length_ns);
    const uint64_t end = atomic_load(&end_ns);
    while (now < end) {
        uint64_t n = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
        if (each_once && n >> bits) {
            atomic_store_explicit(&exhausted, 1, memory_order_relaxed);
            break;
        }
        read_block(member, permuted(n, bits, seed));
        uint64_t after = now_ns();
        record(after - now);
        if (turns) {
            sink = work(turns);
            after = now_ns();
        }
        now = after;
        reads++;
    }
    atomic_fetch_add_explicit(&done, reads, memory_order_relaxed);
}

/* KiB that the kernel uses for the stacks of all threads of the machine. */
static unsigned long kernel_stacks(void)
{
    static char text[8192];
    int file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[n > 0 ? n : 0] = 0;
    const char *line = strstr(text, "\nKernelStack:");
    return line ? strtoul(line + strlen("\nKernelStack:"), NULL, 10) : 0;
}

static unsigned long process_memory(void) { return status("\nVmRSS:") + status("\nVmPTE:"); }

static unsigned long increase(unsigned long before, unsigned long after)
{
    return after > before ? after - before : 0;
}

static void say_latencies(void)
{
    printf("{\"memory_bytes\": %lu, \"kernel_stack_bytes\": %lu, \"latencies\": [",
           memory_added << 10, stacks_added << 10);
    const char *comma = "";
    for (unsigned i = 0; i < BUCKETS; i++) {
        uint32_t count = atomic_load(&latencies[i]);
        if (!count)
            continue;
        printf("%s[%llu, %u]", comma, (unsigned long long)highest(i), count);
        comma = ", ";
    }
    printf("]}\n");
    fflush(stdout);
}

static void *run(void *unused)
{
    memory_before = process_memory();
    stacks_before = kernel_stacks();
    workload_start(&workload);
    memory_added = increase(memory_before, process_memory());
    stacks_added = increase(stacks_before, kernel_stacks());
    unsigned long threads = status("\nThreads:");
    workload_join(&workload);
    say_phase(atomic_load(&done), &workload.from, &workload.to, threads, atomic_load(&exhausted));
    say_latencies();
    return unused;
}

static void open_file(const char *path, const char *cache)
{
    struct stat st;
    fd = open(path, O_RDONLY | O_CLOEXEC | (strcmp(cache, "direct") ? 0 : O_DIRECT));
    if (fd < 0 || fstat(fd, &st))
        die(errno, "%s (%s)", path, cache);
    off_t most = strcmp(cache, "cached") || st.st_size < CACHED_BYTES ? st.st_size : CACHED_BYTES;
    if (most < (off_t)size)
        die(0, "%s: too small, %zu bytes at least", path, size);
    while (((off_t)size << (bits + 1)) <= most)
        bits++;
    if (!strcmp(cache, "direct"))
        return;
    if (!strcmp(cache, "cold") && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
        die(0, "%s: posix_fadvise refused", path);
    each_once = !strcmp(cache, "cold");
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM))
        die(0, "%s: posix_fadvise refused", path);
    for (uint64_t n = 0; !each_once && !(n >> bits); n++)
        read_block(0, n);
}

int main(int argc, char **argv)
{
    if (argc != 10 || (strcmp(argv[1], "fibers") && strcmp(argv[1], "pthreads"))) {
        fputs(usage, stderr);
        return 2;
    }
    workload.fibers = !strcmp(argv[1], "fibers");
    workload.prepare = prepare;
    workload.work = requests;
    workload.count = (unsigned)strtoul(argv[2], NULL, 10);
    workload.workers = (unsigned)strtoul(argv[3], NULL, 10);
    const int processors = (int)strtoul(argv[4], NULL, 10);
    length_ns = strtoull(argv[5], NULL, 10) * 1000000;
    size = strtoull(argv[6], NULL, 10);
    turns = strtoull(argv[8], NULL, 10);
    const char *cache = argv[7];
    int is_cache = !strcmp(cache, "cached") || !strcmp(cache, "cold") || !strcmp(cache, "direct");
    if (!workload.count || !workload.workers || processors < 1 || !length_ns || !size ||
        size & (size - 1) || !is_cache) {
        fputs(usage, stderr);
        return 2;
    }
    use_processors(processors);
    stride = size < ALIGNMENT ? ALIGNMENT : size;
    if (posix_memalign((void **)&memory, ALIGNMENT, stride * workload.count))
        die(ENOMEM, "%u buffers of %zu bytes", workload.count, stride);
    memset(memory, 0, stride * workload.count);
    seed = fresh_seed();
    open_file(argv[9], cache);
    workload_run(&workload, run, NULL);
    return 0;
}
