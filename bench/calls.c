/* SPDX-License-Identifier: MIT */
/* calls.c - makes one call many times off a fiber, for counting instructions. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "calls read|write|pread|open+close|lseek TIMES DIR\n";

int main(int argc, char **argv)
{
    char buffer[64] = "", path[4096];
    if (argc != 4 || chdir(argv[3])) {
        fputs(usage, stderr);
        return 2;
    }
    snprintf(path, sizeof path, "calls.%ld", (long)getpid());
    const char *call = argv[1];
    long times = strtol(argv[2], NULL, 10), bad = 0;
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    int file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (zero < 0 || null < 0 || file < 0 || write(file, buffer, sizeof buffer) != sizeof buffer ||
        unlink(path)) {
        perror(path);
        return 1;
    }
    if (!strcmp(call, "read"))
        for (long i = 0; i < times; i++)
            bad += read(zero, buffer, 1) != 1;
    else if (!strcmp(call, "write"))
        for (long i = 0; i < times; i++)
            bad += write(null, buffer, 1) != 1;
    else if (!strcmp(call, "pread"))
        for (long i = 0; i < times; i++)
            bad += pread(file, buffer, 1, 0) != 1;
    else if (!strcmp(call, "open+close"))
        for (long i = 0; i < times; i++)
            bad += close(open("/dev/null", O_RDONLY)) != 0;
    else if (!strcmp(call, "lseek"))
        for (long i = 0; i < times; i++)
            bad += lseek(file, 0, SEEK_SET) != 0;
    else
        bad = times + 1;
    if (bad) {
        fprintf(stderr, "%s: %ld of %ld calls went wrong\n", call, bad, times);
        return 1;
    }
    return 0;
}
