/* SPDX-License-Identifier: MIT */
/* check.h - error exits, complete transfers and checksums for all programs in this directory. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SKIP = 77 };

/* Ends the program with "what: error" and exit code 1. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
    int error = errno;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, args);
    fprintf(stderr, ": %s\n", strerror(error));
    va_end(args);
    exit(EXIT_FAILURE);
}

/* For functions that return an error number. */
static inline void check(int error, const char *what)
{
    if (error) {
        errno = error;
        die("%s", what);
    }
}

/* Ends the program because the data that was read differs from the data that was written. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(EXIT_FAILURE);
}

static inline void *allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory)
        die("%zu bytes", size);
    return memory;
}

/* Memory for O_DIRECT. */
static inline void *allocate_aligned(size_t size)
{
    void *memory = NULL;
    check(posix_memalign(&memory, 4096, size), "posix_memalign");
    memset(memory, 0, size);
    return memory;
}

static inline void write_full(int fd, const void *buf, size_t size)
{
    const char *at = buf;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("write to %d", fd);
        at += n;
        size -= (size_t)n;
    }
}

/* Reads until size bytes have arrived or the file ends. */
static inline size_t read_full(int fd, void *buf, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, (char *)buf + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("read from %d", fd);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static inline unsigned long number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 0);
    if (errno || *end || end == text || *text == '-')
        wrong("%s: not a number", text);
    return value;
}

/* FNV-1a, 64 bits. Start from HASH_START; sums of hashes do not depend on the order. */
#define HASH_START UINT64_C(0xcbf29ce484222325)
static inline uint64_t hash(uint64_t start, const void *data, size_t size)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < size; i++)
        start = (start ^ at[i]) * UINT64_C(0x100000001b3);
    return start;
}

/* xorshift64*: the same numbers on every run. state must not be 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
