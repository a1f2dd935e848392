/* SPDX-License-Identifier: MIT */
/* replaced_descriptor.c - calls that do not wait, on a descriptor that another task replaces as
 * soon as it runs again: each call must act on the file on which it was made, however many calls
 * came before it. */
#define _GNU_SOURCE
#include "probe.h"

enum { ROUNDS = 150, SIZE = 4096 };

static int fd;
static int has_begun;
static long result;
static long (*call)(int number);
static char data[8];

static long read_it(int number) { return pread(number, data, sizeof data, 0); }
static long write_it(int number) { return pwrite(number, data, sizeof data, 0); }
static long append_it(int number) { return write(number, data, sizeof data); }
static long seek_it(int number) { return lseek(number, 0, SEEK_SET); }
static long cut_it(int number) { return ftruncate(number, SIZE); }

static long sync_it(int number) { return fsync(number); }
static long sync_data_of_it(int number) { return fdatasync(number); }
static long sync_part_of_it(int number)
{
    return sync_file_range(number, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static long look_at_it(int number)
{
    struct stat about;
    return fstat(number, &about) || !S_ISREG(about.st_mode) ? -1 : 0;
}

static long open_in_it(int number)
{
    int found = openat(number, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return found < 0 ? -1 : close(found);
}

static void *make_call(void *arg)
{
    has_begun = 1;
    result = call(fd);
    return arg;
}

/* For a thread it is not possible to know that its call has begun, so the call ends first. */
static void try(const char *what, long (*which)(int), const char *path, int flags)
{
    int ends[2], failed = 0;
    call = which;
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    for (int i = 0; i < ROUNDS; i++) {
        fd = open(path, flags | O_CLOEXEC);
        if (fd < 0)
            die("%s", path);
        has_begun = 0;
        task_t caller = task_spawn(make_call, NULL);
        if (task_options.threads)
            task_join(caller);
        while (!has_begun)
            task_yield();
        if (dup2(ends[0], fd) != fd)
            die("dup2");
        if (!task_options.threads)
            task_join(caller);
        failed += result < 0;
        close(fd);
    }
    printf("%s: %d calls on the other file\n", what, failed);
    close(ends[0]);
    close(ends[1]);
}

static void probe(void)
{
    make_file("file", SIZE);
    try("pread", read_it, "file", O_RDWR);
    try("pwrite", write_it, "file", O_RDWR);
    try("write", append_it, "file", O_RDWR);
    try("lseek", seek_it, "file", O_RDWR);
    try("ftruncate", cut_it, "file", O_RDWR);
    try("fsync", sync_it, "file", O_RDWR);
    try("fdatasync", sync_data_of_it, "file", O_RDWR);
    try("sync_file_range", sync_part_of_it, "file", O_RDWR);
    try("fstat", look_at_it, "file", O_RDWR);
    try("openat", open_in_it, ".", O_RDONLY | O_DIRECTORY);
}
