/* SPDX-License-Identifier: MIT */
/* throughput.c - random 4 KiB reads by many fibers, or by as many pthreads: the same code on both.
 *
 * No block is read twice: the blocks are taken in the order of a random permutation. The phase is bound by time; what
 * it cost is the difference of two getrusage calls around it. One line of JSON says all. */
#define _GNU_SOURCE /* O_DIRECT */
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const char usage[] =
    "throughput fibers|pthreads COUNT MILLISECONDS direct|buffered FILE\n"
    "  direct    O_DIRECT\n"
    "  buffered  through the page cache, which is emptied of FILE first\n";

enum { BLOCK = 4096 };

struct worker {
    _Alignas(64) _Atomic uint64_t done; /* a cache line of its own */
    char *buffer;
    fiber_t *fiber;
    pthread_t thread;
};

static int fd, fibers, buffered;
static unsigned count;
static struct worker *workers;
static unsigned bits;          /* the file has 2^bits blocks */
static uint64_t seed;
static _Atomic uint64_t taken; /* blocks handed out */
static _Atomic int stop, exhausted;

/* All readers start together, when the last of them has been made. */
static fiber_barrier_t fibers_start;
static pthread_barrier_t threads_start;

static void wait_for_all(void)
{
    if (fibers)
        fiber_barrier_wait(&fibers_start);
    else
        pthread_barrier_wait(&threads_start);
}

/* A permutation of the numbers below 2^bits: xor, odd multiplications and shifts down can each be undone. */
static uint64_t permuted(uint64_t x)
{
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    const unsigned half = bits / 2 ? bits / 2 : 1;
    x = (x ^ seed) & mask;
    for (int i = 0; i < 3; i++) {
        x = (x * UINT64_C(0x9e3779b97f4a7c15)) & mask;
        x ^= x >> half;
    }
    return x;
}

static void *reader(void *arg)
{
    struct worker *self = arg;
    wait_for_all();
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint64_t n = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
        if (n >> bits && buffered) {
            atomic_store(&exhausted, 1);
            break;
        }
        ssize_t got = pread(fd, self->buffer, BLOCK, (off_t)(permuted(n) * BLOCK));
        if (got != BLOCK)
            die(got < 0 ? errno : EIO, "pread");
        atomic_store_explicit(&self->done, atomic_load_explicit(&self->done, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    }
    return NULL;
}

static void rest_ms(uint64_t ms)
{
    if (fibers) {
        fiber_sleep(ms * 1000000);
    } else {
        struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
        nanosleep(&t, NULL);
    }
}

struct snapshot {
    uint64_t ns, reads;
    struct rusage usage;
};

static struct snapshot snap(void)
{
    struct snapshot s = { .ns = now_ns() };
    for (unsigned i = 0; i < count; i++)
        s.reads += atomic_load_explicit(&workers[i].done, memory_order_relaxed);
    getrusage(RUSAGE_SELF, &s.usage);
    return s;
}

static uint64_t microseconds(struct timeval from, struct timeval to)
{
    return (uint64_t)((to.tv_sec - from.tv_sec) * 1000000 + (to.tv_usec - from.tv_usec));
}

/* A number of /proc/self/status, 0 when it is not there. */
static unsigned long status(const char *name)
{
    static char text[8192];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[n > 0 ? n : 0] = 0;
    const char *line = strstr(text, name);
    return line ? strtoul(line + strlen(name), NULL, 10) : 0;
}

static void start_readers(void)
{
    int failed = fibers ? fiber_barrier_init(&fibers_start, NULL, count + 1)
                        : pthread_barrier_init(&threads_start, NULL, count + 1);
    if (failed)
        die(failed, "a barrier for %u", count + 1);
    for (unsigned i = 0; i < count; i++) {
        int error = fibers ? fiber_create(&workers[i].fiber, NULL, reader, &workers[i])
                           : pthread_create(&workers[i].thread, NULL, reader, &workers[i]);
        if (error)
            die(error, "%s %u of %u", fibers ? "fiber" : "pthread", i + 1, count);
    }
    wait_for_all();
}

static void join_readers(void)
{
    for (unsigned i = 0; i < count; i++) {
        if (fibers)
            fiber_join(workers[i].fiber, NULL);
        else
            pthread_join(workers[i].thread, NULL);
    }
}

/* Starts the readers, lets them get going, and measures until the time is up or the file is. */
static void *phase(void *arg)
{
    const uint64_t length = *(const uint64_t *)arg * 1000000;
    start_readers();
    rest_ms(length / 10000000 + 1);
    struct snapshot from = snap();
    while (now_ns() - from.ns < length && !atomic_load(&exhausted)) {
        uint64_t left = (length - (now_ns() - from.ns)) / 1000000;
        rest_ms(left > 20 ? 20 : left + 1);
    }
    struct snapshot to = snap();
    unsigned long threads = status("\nThreads:"), peak = status("\nVmHWM:");
    atomic_store(&stop, 1);
    join_readers();
    printf("{\"reads\": %llu, \"ns\": %llu, \"user_us\": %llu, \"system_us\": %llu, \"voluntary\": %ld, "
           "\"involuntary\": %ld, \"device_bytes\": %lld, \"threads\": %lu, \"peak_rss_kib\": %lu, "
           "\"exhausted\": %s, \"preloaded\": %s, \"fiber\": %s}\n",
           (unsigned long long)(to.reads - from.reads), (unsigned long long)(to.ns - from.ns),
           (unsigned long long)microseconds(from.usage.ru_utime, to.usage.ru_utime),
           (unsigned long long)microseconds(from.usage.ru_stime, to.usage.ru_stime),
           to.usage.ru_nvcsw - from.usage.ru_nvcsw, to.usage.ru_nivcsw - from.usage.ru_nivcsw,
           (long long)(to.usage.ru_inblock - from.usage.ru_inblock) * 512, threads, peak,
           atomic_load(&exhausted) ? "true" : "false", preloaded() ? "true" : "false", fiber_self() ? "true" : "false");
    fflush(stdout);
    return NULL;
}

static void open_file(const char *path)
{
    struct stat st;
    fd = open(path, O_RDONLY | O_CLOEXEC | (buffered ? 0 : O_DIRECT));
    if (fd < 0 || fstat(fd, &st))
        die(errno, "%s%s", path, buffered ? "" : " with O_DIRECT");
    while (((off_t)BLOCK << (bits + 1)) <= st.st_size)
        bits++;
    if (!bits)
        die(0, "%s: too small, %d bytes at least", path, 2 * BLOCK);
    if (buffered && (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) || posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM)))
        die(0, "%s: posix_fadvise refused", path);
}

int main(int argc, char **argv)
{
    uint64_t ms = argc == 6 ? strtoull(argv[3], NULL, 10) : 0;
    count = argc == 6 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    fibers = argc == 6 && !strcmp(argv[1], "fibers");
    buffered = argc == 6 && !strcmp(argv[4], "buffered");
    if (!ms || !count || (!fibers && strcmp(argv[1], "pthreads")) || (!buffered && strcmp(argv[4], "direct"))) {
        fputs(usage, stderr);
        return 2;
    }
    open_file(argv[5]);
    seed = now_ns() * UINT64_C(0xd1342543de82ef95) >> 16;
    char *memory = NULL;
    if (posix_memalign((void **)&workers, 64, sizeof *workers * count) ||
        posix_memalign((void **)&memory, BLOCK, (size_t)BLOCK * count))
        die(ENOMEM, "%u buffers", count);
    memset(workers, 0, sizeof *workers * count);
    memset(memory, 0, (size_t)BLOCK * count);
    for (unsigned i = 0; i < count; i++)
        workers[i].buffer = memory + (size_t)BLOCK * i;
    if (fibers)
        on_one_worker(phase, &ms);
    else
        phase(&ms);
    return 0;
}
