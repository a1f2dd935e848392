/* SPDX-License-Identifier: MIT */
/* both_directions.c - one task waits to read from a socket and another one to write to it: each is
 * woken by its own event. */
#define _GNU_SOURCE
#include "blocking_task.h"

enum { MUCH = 16 << 20 };

static long by_recv(blocking_t *w) { return recv(w->fd, w->buf, w->size, 0); }
static long by_send(blocking_t *w) { return send(w->fd, w->buf, w->size, 0); }
static long by_read(blocking_t *w) { return read(w->fd, w->buf, w->size); }
static long by_write(blocking_t *w) { return write(w->fd, w->buf, w->size); }

static void drain(int fd, size_t left)
{
    char *block = allocate(1 << 16);
    while (left > 0) {
        ssize_t n = recv(fd, block, left < 1 << 16 ? left : 1 << 16, 0);
        if (n <= 0)
            die("recv");
        left -= (size_t)n;
    }
    free(block);
}

static void both(enum kind kind, int as_files, int reader_first)
{
    int ends[2];
    char byte = 0, *much = allocate(MUCH);
    make_pair(kind, ends);
    blocking_t waiters[2] = {
        { .call = as_files ? by_read : by_recv, .fd = ends[0], .buf = &byte, .size = 1 },
        { .call = as_files ? by_write : by_send, .fd = ends[0], .buf = much, .size = MUCH },
    };
    printf("%s, %s, %s\n", kind_names[kind], as_files ? "read and write" : "recv and send",
           reader_first ? "the reader first" : "the writer first");
    for (int i = 0; i < 2; i++) {
        blocking_t *w = &waiters[reader_first ? i : !i];
        blocking_start(w);
        blocking_await(w);
    }
    if (reader_first) {
        drain(ends[1], MUCH);
        blocking_show(&waiters[1], "the writer");
        SHOW(send(ends[1], "x", 1, 0));
        blocking_show(&waiters[0], "the reader");
    } else {
        SHOW(send(ends[1], "x", 1, 0));
        blocking_show(&waiters[0], "the reader");
        drain(ends[1], MUCH);
        blocking_show(&waiters[1], "the writer");
    }
    printf("%c\n", byte);
    free(much);
    close_pair(ends);
}

static void probe(void)
{
    for (int choice = 0; choice < 4; choice++) {
        both(UNIX_STREAM, choice / 2, choice % 2);
        both(TCP, choice / 2, choice % 2);
    }
}
