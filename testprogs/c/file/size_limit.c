/* SPDX-License-Identifier: MIT */
/* size_limit.c - writes across RLIMIT_FSIZE: the first one is cut at the limit, the next one gets
 * SIGXFSZ and EFBIG. */
#define _GNU_SOURCE
#include "probe.h"

#include <signal.h>
#include <sys/resource.h>

static volatile sig_atomic_t signals;

static void on_limit(int signal) { signals += signal == SIGXFSZ; }

static void across(const char *path, int flags)
{
    static char data[8192];
    struct rlimit limit = { 10000, RLIM_INFINITY };
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
    if (fd < 0 || setrlimit(RLIMIT_FSIZE, &limit))
        die("setup");
    pattern(data, sizeof data, 1);
    signals = 0;
    long cut[8], at = 0;
    cut[at++] = write(fd, data, 8192);
    cut[at++] = write(fd, data, 8192);
    int before = signals;
    cut[at++] = write(fd, data, 8192);
    int error = errno, after = signals;
    cut[at++] = pwrite(fd, data, 8192, 9999);
    cut[at++] = pwrite(fd, data, 1, 10000);
    cut[at++] = lseek(fd, 0, SEEK_CUR);
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_FSIZE, &limit))
        die("setrlimit");
    for (int i = 0; i < at; i++)
        printf("result %d: %ld\n", i, cut[i]);
    printf("signals: %d, then %d with %s, then %d\n", before, after, strerror(error), (int)signals);
    SHOW(close(fd));
    show_file(path);
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_limit };
    if (sigaction(SIGXFSZ, &action, NULL))
        die("sigaction");
    across("file", 0);
    /* A synchronous write waits for the disk. */
    across("synchronous", O_DSYNC);
}
