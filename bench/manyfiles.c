/* SPDX-License-Identifier: MIT */
/* manyfiles.c - reads the first block of many files, by one reader or by many at once.
 *
 * The files are named 0, 1, 2 and so on, as `aioshim slow-files` names them. All are open before
 * the clock starts. Readers take the next file until none is left. */
#define _GNU_SOURCE /* O_DIRECT */
#include "workload.h"

static const char usage[] = "manyfiles fibers|pthreads READERS FILES buffered|direct DIR\n"
                            "  buffered  through the page cache\n"
                            "  direct    O_DIRECT\n";

#define BLOCK 4096

static int *opened;
static unsigned files;
static char *buffers;
static _Atomic unsigned taken;

static void reader(unsigned member)
{
    char *buffer = buffers + (size_t)member * BLOCK;
    for (unsigned n; (n = atomic_fetch_add(&taken, 1)) < files;) {
        ssize_t got = pread(opened[n], buffer, BLOCK, 0);
        if (got != BLOCK)
            die(got < 0 ? errno : EIO, "pread of file %u", n);
    }
}

static struct workload workload = { .workers = 1, .work = reader };

static void *phase(void *arg)
{
    (void)arg;
    workload_start(&workload);
    unsigned long threads = status("\nThreads:");
    workload_join(&workload);
    say_phase(files, &workload.from, &workload.to, threads, 1);
    return NULL;
}

int main(int argc, char **argv)
{
    workload.count = argc == 6 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    files = argc == 6 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    workload.fibers = argc == 6 && !strcmp(argv[1], "fibers");
    int direct = argc == 6 && !strcmp(argv[4], "direct");
    if (!workload.count || !files || (!workload.fibers && strcmp(argv[1], "pthreads")) ||
        (!direct && strcmp(argv[4], "buffered"))) {
        fputs(usage, stderr);
        return 2;
    }
    int directory = open(argv[5], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    opened = calloc(files, sizeof *opened);
    if (directory < 0 || !opened)
        die(errno, "%s", argv[5]);
    for (unsigned n = 0; n < files; n++) {
        char name[16];
        snprintf(name, sizeof name, "%u", n);
        opened[n] = openat(directory, name, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
        if (opened[n] < 0)
            die(errno, "%s/%s", argv[5], name);
    }
    if (posix_memalign((void **)&buffers, BLOCK, (size_t)workload.count * BLOCK))
        die(ENOMEM, "%u buffers", workload.count);
    memset(buffers, 0, (size_t)workload.count * BLOCK);
    workload_run(&workload, phase, NULL);
    return 0;
}
