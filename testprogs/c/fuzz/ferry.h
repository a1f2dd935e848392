/* SPDX-License-Identifier: MIT */
/* ferry.h - the scenes "ferry" (bytes moved by splice and sendfile) and "lines" (many writers of
 * one stdio stream). */
#ifndef FUZZ_FERRY_H
#define FUZZ_FERRY_H

#include <sys/sendfile.h>

#include "record.h"

/* ---- ferry: file -> pipe -> pipe or socket -> reader ---------------------------------------- */

enum { FERRY_BYTES = 200000 };

struct ferry {
    int file, between[2], far[2];
    size_t bytes;
};

/* Fills the pipe from the file. */
static void ferry_loader(struct actor *self, void *data)
{
    struct ferry *f = data;
    loff_t at = 0;
    while ((size_t)at < f->bytes) {
        size_t size = between(self, 1, 70000);
        long n =
            chance(self, 50)
                ? MUST(self, f->between[1], sendfile(f->between[1], f->file, &at, size))
                : MUST(self, f->between[1], splice(f->file, &at, f->between[1], NULL, size, 0));
        if (n <= 0) {
            violation(self, "a transfer of %zu bytes from %ld gives %ld", size, (long)at, n);
            break;
        }
    }
    close_fd(self, f->between[1]);
}

static void ferry_mover(struct actor *self, void *data)
{
    struct ferry *f = data;
    long n;
    do
        n = MUST(self, f->between[0],
                 splice(f->between[0], NULL, f->far[1], NULL, between(self, 1, 70000), 0));
    while (n > 0);
    close_fd(self, f->far[1]);
}

static void ferry_scene(struct actor *self, void *unused)
{
    char path[64];
    (void)unused;
    struct ferry *f = allocate(sizeof *f);
    char *bytes = allocate(FERRY_BYTES);
    f->bytes = between(self, 1, FERRY_BYTES);
    for (size_t i = 0; i < f->bytes; i++)
        bytes[i] = (char)(i * 131 + (i >> 9));
    snprintf(path, sizeof path, "ferry.%u", self->index);
    f->file = (int)MUST(self, -1, open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    write_all(self, f->file, bytes, f->bytes);
    MUST(self, -1, pipe2(f->between, O_CLOEXEC));
    if (chance(self, 50))
        MUST(self, -1, pipe2(f->far, O_CLOEXEC));
    else
        MUST(self, -1, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->far));
    struct actor *loader = start(self, ferry_loader, f), *mover = start(self, ferry_mover, f);
    size_t room = between(self, 1000, 100000), got = 0;
    char *buffer = allocate(room);
    for (;;) {
        long n = MUST(self, f->far[0], read(f->far[0], buffer, room));
        if (n <= 0)
            break;
        if (got + (size_t)n <= f->bytes)
            REQUIRE(self, !memcmp(buffer, bytes + got, (size_t)n), "bytes %zu to %zu are others",
                    got, got + (size_t)n);
        got += (size_t)n;
        if (chance(self, 20))
            rest(self, below(self, 100));
    }
    finish(self, loader);
    finish(self, mover);
    REQUIRE(self, got == f->bytes, "of %zu bytes %zu came", f->bytes, got);
    close_fd(self, f->far[0]);
    close_fd(self, f->between[0]);
    close_fd(self, f->file);
    MUST(self, -1, unlink(path));
    free(buffer);
    free(bytes);
    free(f);
}

/* ---- lines: many writers of one stdio stream ------------------------------------------------ */

struct lines {
    FILE *file;
    unsigned next_writer, writers, lines;
    unsigned char seen[WRITERS][RECORDS];
};

static void line_writer(struct actor *self, void *data)
{
    struct lines *l = data;
    unsigned writer = __atomic_fetch_add(&l->next_writer, 1, __ATOMIC_RELAXED);
    for (unsigned n = 0; n < l->lines; n++) {
        int width = (int)between(self, 1, 200), printed;
        enter_call(self, "fprintf", fileno(l->file));
        if (chance(self, 30)) {
            /* Two calls under one lock are one line too. */
            flockfile(l->file);
            printed = fprintf(l->file, "%u %u ", writer, n);
            /* fiber_yield does not keep a stream's lock, but a call that waits does. */
            if (chance(self, 30))
                rest(self, 20);
            printed = printed > 0 ? fprintf(l->file, "%d %0*d\n", width, width, 7) : -1;
            funlockfile(l->file);
        } else {
            printed = fprintf(l->file, "%u %u %d %0*d\n", writer, n, width, width, 7);
        }
        REQUIRE(self, printed > 0, "fprintf: %s", strerror(errno));
        if (chance(self, 10))
            REQUIRE(self, fflush(l->file) == 0, "fflush: %s", strerror(errno));
        self->call = NULL;
        if (chance(self, 10))
            task_yield();
    }
}

static void check_lines(struct actor *self, struct lines *l, const char *path)
{
    unsigned last[WRITERS] = { 0 }, writer, number, digits;
    char *line = NULL;
    size_t room = 0;
    int width, at;
    FILE *file = fopen(path, "re");
    if (!file) {
        violation(self, "%s: %s", path, strerror(errno));
        return;
    }
    while (getline(&line, &room, file) > 0) {
        int whole = sscanf(line, "%u %u %d %n%u", &writer, &number, &width, &at, &digits) == 4 &&
                    writer < l->writers && number < l->lines && digits == 7 &&
                    strlen(line + at) == (size_t)width + 1;
        REQUIRE(self, whole, "a line is torn: %.60s", line);
        if (!whole)
            continue;
        REQUIRE(self, number >= last[writer], "line %u of writer %u came after line %u", number,
                writer, last[writer] - 1);
        last[writer] = number + 1;
        l->seen[writer][number]++;
    }
    for (unsigned w = 0; w < l->writers; w++)
        for (unsigned n = 0; n < l->lines; n++)
            REQUIRE(self, l->seen[w][n] == 1, "line %u of writer %u was seen %u times", n, w,
                    l->seen[w][n]);
    free(line);
    fclose(file);
}

static void lines_scene(struct actor *self, void *unused)
{
    static const char *const modes[] = { "we", "ae" };
    char path[64];
    (void)unused;
    struct lines *l = allocate(sizeof *l);
    struct actor *writers[WRITERS];
    snprintf(path, sizeof path, "lines.%u", self->index);
    l->writers = between(self, 1, WRITERS);
    l->lines = between(self, 5, RECORDS);
    l->file = fopen(path, modes[below(self, 2)]);
    if (!l->file)
        die("%s", path);
    if (chance(self, 30))
        setvbuf(l->file, NULL, _IOLBF, 256);
    for (unsigned i = 0; i < l->writers; i++)
        writers[i] = start(self, line_writer, l);
    for (unsigned i = 0; i < l->writers; i++)
        finish(self, writers[i]);
    REQUIRE(self, fclose(l->file) == 0, "fclose: %s", strerror(errno));
    check_lines(self, l, path);
    MUST(self, -1, unlink(path));
    free(l);
}

#endif
