/* SPDX-License-Identifier: MIT */
/* stall.c - fibers that do not yield until AIOSHIM_STALL has reported them: one computes, one
 * blocks; then one computes again at the location of the first. Run with AIOSHIM_OUT=said; the
 * fibers read that file with system calls that no hook sees. */
#define _GNU_SOURCE
#include "probe.h"
#include "raw_call.h"

/* The report, and its size when it was last read. */
static int report;
static off_t seen;

/* Whether a line of the report contains both texts. Reads the report only if it has grown, because
 * nothing here may wait. */
static int said(const char *who, const char *what)
{
    static char text[1 << 16];
    struct stat about;
    if (raw_call(SYS_fstat, report, (long)&about, 0, 0) || about.st_size == seen)
        return 0;
    seen = about.st_size;
    long n = raw_call(SYS_lseek, report, 0, SEEK_SET, 0)
                 ? 0
                 : raw_call(SYS_read, report, (long)text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (strstr(line, who) && strstr(line, what))
            return 1;
    return 0;
}

/* Exported, so that the report can name it. */
__attribute__((noinline)) void computes(long rounds)
{
    static volatile long count;
    for (long i = 0; rounds ? i < rounds : !said("\"spinner\" has kept", "computing at"); i++)
        for (int n = 0; n < 1000000; n++)
            count++;
}

static void *compute(void *arg)
{
    computes((long)arg);
    return arg;
}

static int ends[2];

static void *block(void *arg)
{
    char byte;
    printf("it read %ld\n", raw_call(SYS_read, ends[0], (long)&byte, 1, 0));
    return arg;
}

/* A plain thread. */
static void *end_the_wait(void *arg)
{
    while (!said("\"reader\" has kept", "blocked in read"))
        sched_yield();
    write_full(ends[1], "x", 1);
    return arg;
}

static void run_named(const char *name, void *(*fn)(void *), void *arg)
{
    fiber_t *fiber;
    fiber_attr_t attr = FIBER_ATTR_INIT;
    attr.name = name;
    check(fiber_create(&fiber, &attr, fn, arg), "fiber_create");
    check(fiber_join(fiber, NULL), "fiber_join");
}

static void probe(void)
{
    pthread_t thread;
    report = open("said", O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
    if (report < 0 || pipe2(ends, O_CLOEXEC))
        die("files");
    run_named("spinner", compute, NULL);
    /* Long enough to be noticed on most machines; if it is not, nothing is reported. */
    run_named("again", compute, (void *)100);
    check(pthread_create(&thread, NULL, end_the_wait, NULL), "pthread_create");
    run_named("reader", block, NULL);
    check(pthread_join(thread, NULL), "pthread_join");
}
