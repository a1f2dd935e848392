/* SPDX-License-Identifier: MIT */
/* record.h - records with a writer, a number and a checksum, and the ledger of the records that
 * were seen. */
#ifndef FUZZ_RECORD_H
#define FUZZ_RECORD_H

#include "case.h"

enum { WRITERS = 8, RECORDS = 64, RECORD_MAX = 4096 };

struct record {
    uint32_t writer, number, size, end;
    uint64_t sum;
    unsigned char body[];
};

struct ledger {
    size_t size; /* size of every record */
    unsigned writers, records;
    unsigned char seen[WRITERS][RECORDS];
};

static inline uint64_t record_sum(const struct record *r, size_t size)
{
    const uint32_t head[3] = { r->writer, r->number, r->size };
    return hash(hash(HASH_START, head, sizeof head), r->body, size - sizeof *r);
}

static inline void make_record(void *at, size_t size, unsigned writer, unsigned number)
{
    struct record *r = at;
    *r = (struct record){ .writer = writer, .number = number, .size = (uint32_t)size };
    memset(r->body, (int)(writer * 31 + number + 1), size - sizeof *r);
    r->sum = record_sum(r, size);
}

/* Returns whether the record is intact and belongs to the ledger. */
static inline int check_record(struct actor *self, const struct ledger *ledger,
                               const struct record *r)
{
    int whole = r->size == ledger->size && r->writer < ledger->writers &&
                r->number < ledger->records && r->sum == record_sum(r, ledger->size);
    REQUIRE(self, whole, "a record is torn or foreign: writer %u, number %u, size %u of %zu",
            r->writer, r->number, r->size, ledger->size);
    return whole;
}

/* Enters one record. If last is given, it contains for each writer the number after the last one
 * seen, which only grows. */
static inline void note_record(struct actor *self, struct ledger *ledger, const struct record *r,
                               unsigned *last)
{
    if (!check_record(self, ledger, r))
        return;
    if (last) {
        REQUIRE(self, r->number >= last[r->writer], "record %u of writer %u came after record %u",
                r->number, r->writer, last[r->writer] - 1);
        last[r->writer] = r->number + 1;
    }
    __atomic_fetch_add(&ledger->seen[r->writer][r->number], 1, __ATOMIC_RELAXED);
}

/* Requires that every record was seen exactly once. */
static inline void check_ledger(struct actor *self, const struct ledger *ledger)
{
    for (unsigned w = 0; w < ledger->writers; w++)
        for (unsigned n = 0; n < ledger->records; n++)
            REQUIRE(self, ledger->seen[w][n] == 1, "record %u of writer %u was seen %u times", n, w,
                    ledger->seen[w][n]);
}

/* Requires that the file consists of the ledger's records, each once, and each writer's in order.
 */
static inline void check_file_of_records(struct actor *self, struct ledger *ledger, int fd)
{
    struct stat about;
    unsigned last[WRITERS] = { 0 };
    size_t expected = ledger->size * ledger->writers * ledger->records;
    MUST(self, fd, fstat(fd, &about));
    REQUIRE(self, (size_t)about.st_size == expected, "the file has %ld bytes, not %zu",
            (long)about.st_size, expected);
    char *at = allocate_aligned(ledger->size);
    for (off_t offset = 0; offset + (off_t)ledger->size <= about.st_size;
         offset += (off_t)ledger->size) {
        long n = MUST(self, fd, pread(fd, at, ledger->size, offset));
        REQUIRE(self, n == (long)ledger->size, "pread gives %ld bytes of a record", n);
        note_record(self, ledger, (struct record *)at, last);
    }
    free(at);
    check_ledger(self, ledger);
}

#endif
