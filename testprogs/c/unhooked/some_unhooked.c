/* SPDX-License-Identifier: MIT */
/* some_unhooked.c - blocking calls that no hook sees: a syscall instruction in the program itself,
 * and one inside libc. Calls through libc's syscall() and stdio are converted. None of the calls
 * waits, except for one that sleeps. */
#define _GNU_SOURCE
#include "probe.h"
#include "raw_call.h"

#include <sys/sysinfo.h>
#include <time.h>

static void probe(void)
{
    char buf[8] = "";
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    write_full(ends[1], "1234567", 7);
    printf("the program's own: %ld\n", raw_call(SYS_read, ends[0], (long)buf, 3, 0));
    SHOW(syscall(SYS_readv, ends[0], &(struct iovec){ buf + 3, 4 }, 1));
    puts(buf);
    /* The call is made, and libc sets errno. */
    SHOW(syscall(SYS_readv, -1, &(struct iovec){ buf, 1 }, 1));
    struct timespec two = { 0, 2000000 };
    printf("a sleep: %ld\n", raw_call(SYS_nanosleep, (long)&two, 0, 0, 0));
    printf("has processors: %d\n", get_nprocs_conf() > 0);
    FILE *file = fopen("file", "w");
    if (!file || fputs("stdio\n", file) < 0)
        die("file");
    SHOW(fflush(file));
    SHOW(fclose(file));
    show_file("file");
}
