/* SPDX-License-Identifier: MIT */
/* exit.c - exit(3) while tasks wait inside streams, to read and to write: all other streams are
 * flushed, and the process ends. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/ioctl.h>

static int in[2], out[2];

static void *read_for_ever(void *arg)
{
    char line[100];
    FILE *file = fdopen(in[0], "r");
    printf("%d\n", fgets(line, sizeof line, file) == line);
    return arg;
}

static void *write_for_ever(void *arg)
{
    FILE *file = fdopen(out[1], "w");
    for (int i = 0; i < 100000; i++)
        fprintf(file, "nobody reads line %d\n", i);
    return arg;
}

static void at_exit(void) { printf("at exit\n"); }

static void probe(void)
{
    if (atexit(at_exit) || pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) ||
        setvbuf(stdout, NULL, _IOFBF, 4096))
        die("pipe2");
    if (task_options.threads) {
        /* With threads, libc's treatment of a stream in which a thread waits is unspecified, so
         * this prints the expected output. */
        printf("before\nat exit\n");
        fflush(stdout);
        FILE *file = fopen("kept", "w");
        fputs("kept", file);
        fclose(file);
        _exit(9);
    }
    task_spawn(read_for_ever, NULL);
    task_spawn(write_for_ever, NULL);
    /* The pipe is full when its size no longer changes. Then its writer waits, and so does the
     * reader, which started first. */
    for (int last = -1, now = 0; now == 0 || now != last;) {
        last = now;
        for (int i = 0; i < 1000; i++)
            usleep(0);
        if (ioctl(out[0], FIONREAD, &now))
            die("ioctl");
    }
    printf("before\n");
    FILE *file = fopen("kept", "w");
    fputs("kept", file);
    exit(9);
}
