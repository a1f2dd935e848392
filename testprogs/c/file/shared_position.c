/* SPDX-License-Identifier: MIT */
/* shared_position.c - many tasks read and write records at one shared position: each record is read
 * once, and none is lost or torn. */
#define _GNU_SOURCE
#include "probe.h"

enum { RECORDS = 2000, RECORD = 700, WORDS = RECORD / 4 };

static int shared_fd, twin_fd;
static unsigned char seen[RECORDS];
static task_barrier_t start;

static void *read_records(void *arg)
{
    uint32_t record[WORDS];
    int fd = *(int *)arg % 2 ? twin_fd : shared_fd;
    struct iovec parts[] = { { record, 300 }, { (char *)record + 300, RECORD - 300 } };
    task_barrier_wait(&start);
    for (int i = 0;; i++) {
        ssize_t n = i % 3 ? read(fd, record, RECORD) : readv(fd, parts, 2);
        if (n == 0)
            return NULL;
        if (n != RECORD)
            wrong("a read of %zd bytes", n);
        for (int w = 1; w < WORDS; w++)
            if (record[w] != record[0])
                wrong("a torn read: records %u and %u", record[0], record[w]);
        if (__atomic_fetch_add(&seen[record[0] % RECORDS], 1, __ATOMIC_RELAXED))
            wrong("record %u was read twice", record[0]);
    }
}

static void *write_records(void *arg)
{
    uint32_t record[WORDS], id = *(uint32_t *)arg;
    int fd = id % 2 ? twin_fd : shared_fd;
    struct iovec parts[] = { { record, 300 }, { (char *)record + 300, RECORD - 300 } };
    task_barrier_wait(&start);
    for (uint32_t i = id; i < RECORDS; i += task_options.tasks) {
        for (int w = 0; w < WORDS; w++)
            record[w] = i;
        ssize_t n = i % 3 ? write(fd, record, RECORD) : writev(fd, parts, 2);
        if (n != RECORD)
            wrong("a write of %zd bytes", n);
    }
    return NULL;
}

/* One open file with two descriptors. */
static void open_shared(int flags)
{
    shared_fd = open("records", flags | O_CLOEXEC, 0600);
    twin_fd = dup(shared_fd);
    if (shared_fd < 0 || twin_fd < 0)
        die("records");
}

static void close_shared(void)
{
    if (close(shared_fd) || close(twin_fd))
        die("close");
}

static void probe(void)
{
    unsigned n = task_options.tasks, missing = 0;
    uint32_t *ids = allocate(n * sizeof *ids);
    for (unsigned i = 0; i < n; i++)
        ids[i] = i;
    task_barrier_init(&start, n);
    open_shared(O_RDWR | O_CREAT);
    task_each(write_records, ids, sizeof *ids, n);
    printf("written: %jd\n", (intmax_t)lseek(shared_fd, 0, SEEK_CUR));
    close_shared();
    open_shared(O_RDONLY);
    task_each(read_records, ids, sizeof *ids, n);
    printf("read: %jd\n", (intmax_t)lseek(twin_fd, 0, SEEK_CUR));
    close_shared();
    for (int i = 0; i < RECORDS; i++)
        missing += !seen[i];
    printf("missing: %u\n", missing);
    free(ids);
}
