/* SPDX-License-Identifier: MIT */
/* overhead.c - the cost of one call, off a fiber or on fibers, with one buffer or several in turn.
 *
 * Every slot has its own buffer, and its own descriptor unless the call is a -shared one. Off a
 * fiber the slots take turns; on fibers each slot has its own fiber. So "off, 64 slots" and "64
 * fibers" touch the same memory, and differ only in how the calls are made. */
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static const char usage[] =
    "overhead CALL off|fibers|beside SLOTS DIR\n"
    "  CALL   read1 read4k read64k pread4k pread4k-shared write4k pwrite4k open+close fsync\n"
    "         stat fstat access readlink link+unlink readdir opendir+closedir\n"
    "  beside fibers, and one more fiber that waits in a read of a pipe all the time\n"
    "  SLOTS  a power of two\n"
    "  DIR    directory for its files, which are created if missing\n"
    "then one number of calls per line on standard input; prints nanoseconds per call for each\n";

enum {
    READ_FILE = 1 << 20,  /* one file, read by all slots */
    WRITE_FILE = 1 << 18, /* one per slot: writers of one file would wait for each other */
};

struct slot {
    int fd;
    char *buffer;
    off_t at;
    DIR *directory;
    char name[4200];
};

static struct slot *slots;
static unsigned count;
static size_t length;
static off_t file_size;
static char read_path[4096], link_path[4200], directory_path[4096];

static void expect(const char *call, ssize_t got, size_t wanted)
{
    if (got < 0)
        die(errno, "%s", call);
    if ((size_t)got != wanted)
        die(0, "%s: %zd of %zu bytes", call, got, wanted);
}

/* Calls at the file position return to the start at the end of the file, like a program that reads
 * it again. */
static void advance(struct slot *slot, int seek)
{
    slot->at += (off_t)length;
    if (slot->at + (off_t)length <= file_size)
        return;
    slot->at = 0;
    if (seek && lseek(slot->fd, 0, SEEK_SET) != 0)
        die(errno, "lseek");
}

static void call_read(struct slot *slot)
{
    expect("read", read(slot->fd, slot->buffer, length), length);
    advance(slot, 1);
}

static void call_write(struct slot *slot)
{
    expect("write", write(slot->fd, slot->buffer, length), length);
    advance(slot, 1);
}

static void call_pread(struct slot *slot)
{
    expect("pread", pread(slot->fd, slot->buffer, length, slot->at), length);
    advance(slot, 0);
}

static void call_pwrite(struct slot *slot)
{
    expect("pwrite", pwrite(slot->fd, slot->buffer, length, slot->at), length);
    advance(slot, 0);
}

static void call_open_close(struct slot *slot)
{
    (void)slot;
    int fd = open(read_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(errno, "open %s", read_path);
    expect("close", close(fd), 0);
}

static void call_fsync(struct slot *slot) { expect("fsync", fsync(slot->fd), 0); }

static void call_stat(struct slot *slot)
{
    struct stat about;
    (void)slot;
    expect("stat", stat(read_path, &about), 0);
}

static void call_fstat(struct slot *slot)
{
    struct stat about;
    expect("fstat", fstat(slot->fd, &about), 0);
}

static void call_access(struct slot *slot)
{
    (void)slot;
    expect("access", access(read_path, R_OK), 0);
}

static void call_readlink(struct slot *slot)
{
    expect("readlink", readlink(link_path, slot->buffer, 4096), 4);
}

static void call_link_unlink(struct slot *slot)
{
    expect("link", link(read_path, slot->name), 0);
    expect("unlink", unlink(slot->name), 0);
}

/* Reads an entry; starts again at the end. */
static void call_readdir(struct slot *slot)
{
    if (!readdir(slot->directory))
        rewinddir(slot->directory);
}

static void call_opendir_closedir(struct slot *slot)
{
    (void)slot;
    DIR *directory = opendir(directory_path);
    if (!directory)
        die(errno, "opendir");
    expect("closedir", closedir(directory), 0);
}

static const struct call {
    const char *name;
    void (*fn)(struct slot *);
    size_t length;
    int writes, shared;
} calls[] = {
    { "read1", call_read, 1, 0, 0 },
    { "read4k", call_read, 4096, 0, 0 },
    { "read64k", call_read, 65536, 0, 0 },
    { "pread4k", call_pread, 4096, 0, 0 },
    { "pread4k-shared", call_pread, 4096, 0, 1 },
    { "write4k", call_write, 4096, 1, 0 },
    { "pwrite4k", call_pwrite, 4096, 1, 0 },
    { "open+close", call_open_close, 1, 0, 0 },
    { "fsync", call_fsync, 1, 1, 0 },
    { "stat", call_stat, 1, 0, 0 },
    { "fstat", call_fstat, 1, 0, 0 },
    { "access", call_access, 1, 0, 0 },
    { "readlink", call_readlink, 1, 0, 0 },
    { "link+unlink", call_link_unlink, 1, 0, 0 },
    { "readdir", call_readdir, 1, 0, 0 },
    { "opendir+closedir", call_opendir_closedir, 1, 0, 0 },
};

static const struct call *chosen;

static void on_fiber(unsigned member, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        chosen->fn(&slots[member]);
}

static double round_on_fibers(uint64_t n)
{
    uint64_t each = n / count ? n / count : 1;
    return (double)run_gang(count, each, on_fiber) / (double)(each * count);
}

static int quiet_pipe[2];

static void *waits(void *arg)
{
    char byte;
    expect("read of the pipe", read(quiet_pipe[0], &byte, 1), 1);
    return arg;
}

static double round_beside(uint64_t n)
{
    fiber_t *waiting;
    int error = fiber_create(&waiting, NULL, waits, NULL);
    if (error)
        die(error, "fiber_create");
    fiber_yield();
    double ns = round_on_fibers(n);
    expect("write to the pipe", write(quiet_pipe[1], "", 1), 1);
    fiber_join(waiting, NULL);
    return ns;
}

static void in_turn(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        chosen->fn(&slots[i & (count - 1)]);
}

static double round_off(uint64_t n)
{
    uint64_t each = n / count ? n / count : 1;
    in_turn((each / 8 + 1) * count);
    uint64_t start = now_ns();
    in_turn(each * count);
    return (double)(now_ns() - start) / (double)(each * count);
}

/* Opens path; creates and fills it first unless it already exists with its full size. */
static int open_filled(const char *path, off_t size, int flags)
{
    static char block[1 << 16];
    struct stat st;
    memset(block, 'a', sizeof block);
    if (stat(path, &st) != 0 || st.st_size != size) {
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            die(errno, "%s", path);
        for (off_t at = 0; at < size; at += (off_t)sizeof block)
            expect(path, pwrite(fd, block, sizeof block, at), sizeof block);
        expect(path, fsync(fd), 0);
        close(fd);
    }
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        die(errno, "%s", path);
    return fd;
}

static void open_slots(const char *dir)
{
    slots = calloc(count, sizeof *slots);
    char *memory = NULL;
    size_t room = length < 4096 ? 4096 : length;
    if (!slots || posix_memalign((void **)&memory, 4096, room * count))
        die(ENOMEM, "%u buffers", count);
    memset(memory, 'b', room * count);
    snprintf(read_path, sizeof read_path, "%s/read", dir);
    file_size = chosen->writes ? WRITE_FILE : READ_FILE;
    snprintf(link_path, sizeof link_path, "%s/link", dir);
    snprintf(directory_path, sizeof directory_path, "%s", dir);
    if (symlink("read", link_path) && errno != EEXIST)
        die(errno, "%s", link_path);
    for (unsigned i = 0; i < count; i++) {
        struct slot *slot = &slots[i];
        slot->buffer = memory + room * i;
        snprintf(slot->name, sizeof slot->name, "%s/name.%ld.%u", dir, (long)getpid(), i);
        slot->directory = opendir(dir);
        if (!slot->directory)
            die(errno, "%s", dir);
        if (chosen->writes) {
            char path[4200];
            snprintf(path, sizeof path, "%s/write.%u", dir, i);
            slot->fd = open_filled(path, WRITE_FILE, O_RDWR);
        } else {
            slot->fd =
                chosen->shared && i > 0 ? slots[0].fd : open_filled(read_path, READ_FILE, O_RDONLY);
            slot->at = (off_t)(i * (READ_FILE / count) / length * length);
            if (lseek(slot->fd, slot->at, SEEK_SET) != slot->at)
                die(errno, "lseek");
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 5)
        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
            if (!strcmp(argv[1], calls[i].name))
                chosen = &calls[i];
    count = argc == 5 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    int beside = argc == 5 && !strcmp(argv[2], "beside");
    int fibers = beside || (argc == 5 && !strcmp(argv[2], "fibers"));
    if (!chosen || !count || (count & (count - 1)) || (!fibers && strcmp(argv[2], "off"))) {
        fputs(usage, stderr);
        return 2;
    }
    length = chosen->length;
    open_slots(argv[4]);
    if (beside && (!preloaded() || pipe(quiet_pipe)))
        die(preloaded() ? errno : 0,
            "beside: needs a pipe, and libaioshim.so preloaded: the read would block all");
    if (fibers)
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)(beside ? round_beside : round_on_fibers));
    else
        serve(round_off);
    return 0;
}
