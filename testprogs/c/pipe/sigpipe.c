/* SPDX-License-Identifier: MIT */
/* sigpipe.c - a write to a pipe without a reader ends the program with SIGPIPE. */
#define _GNU_SOURCE
#include "probe.h"

static void probe(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) || close(ends[0]))
        die("pipe2");
    ssize_t n = write(ends[1], "x", 1);
    printf("survived: %zd\n", n);
}
