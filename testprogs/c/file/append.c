/* SPDX-License-Identifier: MIT */
/* append.c - many tasks append to one file: after each write the position is at the end of the
 * writer's own record. */
#define _GNU_SOURCE
#include "probe.h"

enum { WRITERS = 4, RECORDS = 60, SIZE = 4096 };

static const char *name;
static int flags;

struct writer {
    int id;
    ssize_t (*append)(int fd, char *record);
    int misplaced;
};

static ssize_t plainly(int fd, char *record) { return write(fd, record, SIZE); }

static ssize_t in_parts(int fd, char *record)
{
    struct iovec parts[] = { { record, 512 }, { record + 512, SIZE - 512 } };
    return writev(fd, parts, 2);
}

static ssize_t by_flag(int fd, char *record)
{
    struct iovec part = { record, SIZE };
    return pwritev2(fd, &part, 1, -1, RWF_APPEND | RWF_DSYNC);
}

static void *write_records(void *arg)
{
    struct writer *w = arg;
    char *record = allocate_aligned(SIZE), *found = allocate_aligned(SIZE);
    int fd = open(name, O_RDWR | O_CLOEXEC | flags);
    if (fd < 0)
        die("%s", name);
    memset(record, 'a' + w->id, SIZE);
    for (int i = 0; i < RECORDS; i++) {
        if (w->append(fd, record) != SIZE)
            die("a record");
        off_t end = lseek(fd, 0, SEEK_CUR);
        w->misplaced +=
            pread(fd, found, SIZE, end - SIZE) != SIZE || memcmp(record, found, SIZE) != 0;
    }
    if (close(fd))
        die("close");
    free(record);
    free(found);
    return arg;
}

static void all(const char *what, int open_flags, ssize_t (*append)(int, char *))
{
    struct writer writers[WRITERS];
    struct stat about;
    int misplaced = 0;
    name = what;
    flags = open_flags;
    make_file(name, 0);
    for (int i = 0; i < WRITERS; i++)
        writers[i] = (struct writer){ i, append, 0 };
    task_each(write_records, writers, sizeof *writers, WRITERS);
    for (int i = 0; i < WRITERS; i++)
        misplaced += writers[i].misplaced;
    if (stat(name, &about))
        die("%s", name);
    printf("%s: %d positions at the end of somebody else's record, %ld records\n", what, misplaced,
           (long)about.st_size / SIZE);
}

static void probe(void)
{
    all("buffered", O_APPEND, plainly);
    all("dsync", O_APPEND | O_DSYNC, plainly);
    all("sync", O_APPEND | O_SYNC, in_parts);
    int direct = open("buffered", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (direct < 0 && errno == EINVAL)
        fprintf(stderr, "no O_DIRECT here\n");
    all("direct", O_APPEND | (direct < 0 ? O_DSYNC : O_DIRECT), plainly);
    all("by a flag", 0, by_flag);
}
