/* SPDX-License-Identifier: MIT */
/* files.h - scenes with files: in "append" and "position" the actors share a file; in "model" an
 * actor has its own file and compares it with an image in memory. */
#ifndef FUZZ_FILES_H
#define FUZZ_FILES_H

#include "record.h"

struct shared_file {
    char path[64];
    int flags; /* for every open */
    int fd;    /* the descriptor that "position" shares */
    unsigned next_writer;
    struct ledger ledger;
};

static void open_shared_file(struct actor *self, struct shared_file *f, const char *name)
{
    static const int extra[] = { 0, O_DSYNC, O_SYNC, O_DIRECT };
    static const size_t sizes[] = { 64, 512, 1024, 4096 };
    snprintf(f->path, sizeof f->path, "%s.%u", name, self->index);
    f->flags = chance(self, 40) ? 0 : extra[below(self, 4)];
    f->ledger.size = f->flags & O_DIRECT ? 4096 : sizes[below(self, 4)];
    f->ledger.writers = between(self, 2, 5);
    f->ledger.records = between(self, 2, f->flags ? 6 : 20);
    int fd =
        (int)CALL(self, -1, open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | f->flags, 0600));
    if (fd == -1 && errno == EINVAL && f->flags & O_DIRECT) {
        f->flags = 0; /* the file system does not support it */
        fd = (int)MUST(self, -1, open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    }
    f->fd = fd;
}

/* Writes one record at the position, in one call. */
static long put_record(struct actor *self, int fd, char *record, size_t size, int whole_only)
{
    size_t cut = whole_only ? size : below(self, (unsigned)size);
    struct iovec parts[2] = { { record, cut }, { record + cut, size - cut } };
    switch (below(self, 3)) {
    case 0: return MUST(self, fd, write(fd, record, size));
    case 1: return MUST(self, fd, writev(fd, parts, whole_only ? 1 : 2));
    default: return MUST(self, fd, pwritev2(fd, parts, whole_only ? 1 : 2, -1, 0));
    }
}

static void check_whole(struct actor *self, const struct shared_file *f, long n)
{
    REQUIRE(self, n == (long)f->ledger.size, "a transfer of %zu bytes gives %ld", f->ledger.size,
            n);
}

/* ---- append: one open file per actor -------------------------------------------------------- */

/* After each write the position is the end of the record just written, not of the file. */
static void append_writer(struct actor *self, void *data)
{
    struct shared_file *f = data;
    unsigned writer = __atomic_fetch_add(&f->next_writer, 1, __ATOMIC_RELAXED);
    size_t size = f->ledger.size;
    int fd = (int)MUST(self, -1, open(f->path, O_RDWR | O_APPEND | O_CLOEXEC | f->flags));
    char *record = allocate_aligned(size), *back = allocate_aligned(size);
    for (unsigned n = 0; n < f->ledger.records; n++) {
        make_record(record, size, writer, n);
        check_whole(self, f, put_record(self, fd, record, size, f->flags & O_DIRECT));
        if (chance(self, 20))
            task_yield();
        off_t end = MUST(self, fd, lseek(fd, 0, SEEK_CUR));
        check_whole(self, f, MUST(self, fd, pread(fd, back, size, end - (off_t)size)));
        REQUIRE(self, !memcmp(record, back, size),
                "after an append the position %ld is not behind the record", (long)end);
    }
    free(record);
    free(back);
    close_fd(self, fd);
}

static void append_scene(struct actor *self, void *unused)
{
    (void)unused;
    struct shared_file *f = allocate(sizeof *f);
    struct actor *writers[WRITERS];
    open_shared_file(self, f, "append");
    for (unsigned i = 0; i < f->ledger.writers; i++)
        writers[i] = start(self, append_writer, f);
    for (unsigned i = 0; i < f->ledger.writers; i++)
        finish(self, writers[i]);
    check_file_of_records(self, &f->ledger, f->fd);
    close_fd(self, f->fd);
    MUST(self, -1, unlink(f->path));
    free(f);
}

/* ---- position: one open file under several numbers ------------------------------------------ */

static void position_writer(struct actor *self, void *data)
{
    struct shared_file *f = data;
    unsigned writer = __atomic_fetch_add(&f->next_writer, 1, __ATOMIC_RELAXED);
    int own = chance(self, 50), fd = own ? (int)MUST(self, f->fd, dup(f->fd)) : f->fd;
    char *record = allocate_aligned(f->ledger.size);
    for (unsigned n = 0; n < f->ledger.records; n++) {
        make_record(record, f->ledger.size, writer, n);
        check_whole(self, f, put_record(self, fd, record, f->ledger.size, f->flags & O_DIRECT));
        if (chance(self, 20))
            task_yield();
    }
    free(record);
    if (own)
        close_fd(self, fd);
}

static void position_reader(struct actor *self, void *data)
{
    struct shared_file *f = data;
    unsigned last[WRITERS] = { 0 };
    int own = chance(self, 50), fd = own ? (int)MUST(self, f->fd, dup(f->fd)) : f->fd;
    char *record = allocate_aligned(f->ledger.size);
    struct iovec whole = { record, f->ledger.size };
    for (;;) {
        long n = chance(self, 50) ? MUST(self, fd, read(fd, record, f->ledger.size))
                                  : MUST(self, fd, readv(fd, &whole, 1));
        if (n <= 0)
            break;
        check_whole(self, f, n);
        note_record(self, &f->ledger, (struct record *)record, last);
        if (chance(self, 20))
            task_yield();
    }
    free(record);
    if (own)
        close_fd(self, fd);
}

static void position_scene(struct actor *self, void *unused)
{
    (void)unused;
    struct shared_file *f = allocate(sizeof *f);
    struct actor *actors[WRITERS];
    open_shared_file(self, f, "position");
    for (unsigned i = 0; i < f->ledger.writers; i++)
        actors[i] = start(self, position_writer, f);
    for (unsigned i = 0; i < f->ledger.writers; i++)
        finish(self, actors[i]);
    check_file_of_records(self, &f->ledger, f->fd);
    memset(f->ledger.seen, 0, sizeof f->ledger.seen);
    MUST(self, f->fd, lseek(f->fd, 0, SEEK_SET));
    for (unsigned i = 0; i < f->ledger.writers; i++)
        actors[i] = start(self, position_reader, f);
    for (unsigned i = 0; i < f->ledger.writers; i++)
        finish(self, actors[i]);
    check_ledger(self, &f->ledger);
    close_fd(self, f->fd);
    MUST(self, -1, unlink(f->path));
    free(f);
}

/* ---- model: a file and its image in memory -------------------------------------------------- */

enum { MODEL_ROOM = 32768 };

struct model {
    int fd;
    size_t size, position;
    unsigned char image[MODEL_ROOM], buffer[MODEL_ROOM];
};

static void model_write(struct actor *self, struct model *m, int at_position)
{
    size_t at = at_position ? m->position : below(self, MODEL_ROOM / 2),
           size = below(self, MODEL_ROOM / 4);
    if (at + size > MODEL_ROOM)
        return;
    memset(m->buffer, (int)below(self, 256), size);
    long n = at_position ? MUST(self, m->fd, write(m->fd, m->buffer, size))
                         : MUST(self, m->fd, pwrite(m->fd, m->buffer, size, (off_t)at));
    REQUIRE(self, n == (long)size, "a write of %zu bytes gives %ld", size, n);
    memcpy(m->image + at, m->buffer, size);
    if (size > 0 && at + size > m->size)
        m->size = at + size;
    if (at_position)
        m->position += size;
}

static void model_read(struct actor *self, struct model *m, int at_position)
{
    size_t at = at_position ? m->position : below(self, MODEL_ROOM / 2),
           size = below(self, MODEL_ROOM / 2);
    size_t expected = at >= m->size ? 0 : m->size - at < size ? m->size - at : size;
    long n = at_position ? MUST(self, m->fd, read(m->fd, m->buffer, size))
                         : MUST(self, m->fd, pread(m->fd, m->buffer, size, (off_t)at));
    REQUIRE(self, n == (long)expected, "a read of %zu bytes at %zu of %zu gives %ld", size, at,
            m->size, n);
    REQUIRE(self, !memcmp(m->buffer, m->image + at, expected),
            "a read at %zu gives other bytes than were written", at);
    if (at_position)
        m->position += expected;
}

static void model_scene(struct actor *self, void *unused)
{
    char path[64];
    (void)unused;
    struct model *m = allocate(sizeof *m);
    snprintf(path, sizeof path, "model.%u", self->index);
    m->fd = (int)MUST(self, -1, open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    for (unsigned step = between(self, 20, 80); step > 0; step--) {
        switch (below(self, 8)) {
        case 0:
        case 1: model_write(self, m, 1); break;
        case 2: model_write(self, m, 0); break;
        case 3:
        case 4: model_read(self, m, 1); break;
        case 5: model_read(self, m, 0); break;
        case 6:
            m->position = below(self, MODEL_ROOM / 2);
            REQUIRE(self,
                    MUST(self, m->fd, lseek(m->fd, (off_t)m->position, SEEK_SET)) ==
                        (long)m->position,
                    "lseek");
            break;
        default: {
            size_t size = below(self, MODEL_ROOM / 2);
            MUST(self, m->fd, ftruncate(m->fd, (off_t)size));
            if (size < m->size)
                memset(m->image + size, 0, m->size - size);
            m->size = size;
        }
        }
        if (chance(self, 10))
            task_yield();
    }
    close_fd(self, m->fd);
    MUST(self, -1, unlink(path));
    free(m);
}

#endif
