/* SPDX-License-Identifier: MIT */
/* fibers.c - what fibers cost by themselves: a yield, a create and join, and the memory of one that waits in a read. */
#include "bench.h"

#include <fcntl.h>

static const char usage[] =
    "fibers yield COUNT   rounds of fiber_yield on COUNT fibers, asked for as in overhead\n"
    "fibers create        rounds of fiber_create and fiber_join\n"
    "fibers parked COUNT  COUNT fibers, each in a read of one byte from an empty pipe, then all woken by its end\n";

static unsigned count;

/* ---- Rounds ------------------------------------------------------------------------------------------------ */

static void yield(unsigned member, uint64_t n)
{
    (void)member;
    for (uint64_t i = 0; i < n; i++)
        fiber_yield();
}

static double round_of_yields(uint64_t n)
{
    uint64_t each = n / count ? n / count : 1;
    return (double)run_gang(count, each, yield) / (double)(each * count);
}

static void *nothing(void *arg)
{
    return arg;
}

static void create_and_join(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        fiber_t *fiber;
        int error = fiber_create(&fiber, NULL, nothing, NULL);
        if (error)
            die(error, "fiber_create");
        error = fiber_join(fiber, NULL);
        if (error)
            die(error, "fiber_join");
    }
}

static double round_of_creates(uint64_t n)
{
    create_and_join(n / 8 + 1);
    uint64_t start = now_ns();
    create_and_join(n);
    return (double)(now_ns() - start) / (double)n;
}

/* ---- Parked ------------------------------------------------------------------------------------------------ */

static int pipe_ends[2];
static unsigned long arrived, woken;

static void *waits(void *arg)
{
    char byte;
    arrived++;
    ssize_t n = read(pipe_ends[0], &byte, 1);
    if (n != 0)
        die(n < 0 ? errno : 0, "read of a pipe at its end gave %zd", n);
    woken++;
    return arg;
}

/* Kilobytes of a line of /proc; 0 when it is not there. */
static long kilobytes(const char *path, const char *name)
{
    static char text[16384];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[n > 0 ? n : 0] = 0;
    const char *line = strstr(text, name);
    return line ? strtol(line + strlen(name), NULL, 10) : 0;
}

struct memory {
    long resident, tables, slab;
};

static struct memory memory(void)
{
    return (struct memory){
        kilobytes("/proc/self/status", "\nVmRSS:"),
        kilobytes("/proc/self/status", "\nVmPTE:"),
        kilobytes("/proc/meminfo", "\nSUnreclaim:"),
    };
}

static void *parked(void *arg)
{
    fiber_t **fibers = calloc(count, sizeof *fibers);
    if (!fibers || pipe(pipe_ends))
        die(errno, "%u fibers on a pipe", count);
    memset(fibers, 1, count * sizeof *fibers); /* its pages are not the fibers' */
    struct memory before = memory();
    uint64_t start = now_ns();
    int error = 0;
    unsigned made = 0;
    while (made < count && !(error = fiber_create(&fibers[made], NULL, waits, NULL)))
        made++;
    /* Each runs until its read parks; this one goes on behind the last of them. */
    while (arrived < made)
        fiber_yield();
    fiber_yield();
    uint64_t all_parked = now_ns();
    struct memory after = memory();
    if (woken)
        die(0, "%lu reads of an empty pipe came back", woken);
    uint64_t closing = now_ns();
    close(pipe_ends[1]);
    for (unsigned i = 0; i < made; i++)
        fiber_join(fibers[i], NULL);
    uint64_t end = now_ns();
    printf("{\"asked\": %u, \"made\": %u, \"error\": \"%s\", \"woken\": %lu, \"park_ns\": %llu, \"wake_ns\": %llu, "
           "\"rss_before_kib\": %ld, \"rss_after_kib\": %ld, \"tables_kib\": %ld, \"slab_kib\": %ld}\n",
           count, made, error ? strerror(error) : "", woken, (unsigned long long)(all_parked - start),
           (unsigned long long)(end - closing), before.resident, after.resident, after.tables - before.tables,
           after.slab - before.slab);
    fflush(stdout);
    free(fibers);
    return arg;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    count = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    if (!strcmp(what, "yield") && count) {
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)round_of_yields);
    } else if (!strcmp(what, "create") && argc == 2) {
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)round_of_creates);
    } else if (!strcmp(what, "parked") && count) {
        if (!preloaded())
            die(0, "parked: libaioshim.so is not preloaded, the first read would block them all");
        on_one_worker(parked, NULL);
    } else {
        fputs(usage, stderr);
        return 2;
    }
    return 0;
}
