/* SPDX-License-Identifier: MIT */
/* matrix.c - makes one kind of call in one cache state, on fibers or pthreads, for some
 * milliseconds.
 *
 * Readers share one file. Writers and syncers have one file each, because writers of one file would
 * wait for each other; the total size is fixed. Each member checks the clock before every call, so
 * that members that never park need not be stopped by another fiber. */
#define _GNU_SOURCE /* O_DIRECT */
#include "workload.h"

#include <sys/stat.h>

static const char usage[] =
    "matrix fibers|pthreads COUNT WORKERS MILLISECONDS STATE CALL BYTES FILE DIR\n"
    "  STATE CALL\n"
    "  cached read    of blocks in the page cache\n"
    "  cold read      of blocks that are not in the page cache\n"
    "  direct read    with O_DIRECT\n"
    "  cached write   over blocks in the page cache\n"
    "  cold write     to newly allocated blocks that are not in the page cache\n"
    "  direct write   with O_DIRECT over existing blocks\n"
    "  cached open    and close, always with the same name\n"
    "  cold open      and close, of names that were never looked up\n"
    "  cached fsync   without data to write\n"
    "  cold fsync     of a block that was just written\n"
    "  direct fsync   of a block that was just written with O_DIRECT\n"
    "  WORKERS        OS threads that run the fibers\n"
    "  BYTES          size of a read or write\n"
    "  FILE           file to read\n"
    "  DIR            directory for the files that are written\n"
    "Prints one line of JSON.\n";

enum {
    CACHED_SIZE = 16 << 20, /* size of the part of FILE that is read */
    SYNCED_SIZE =
        1 << 16, /* size of each synced file; separate files, without data from the writers */
};

/* Total size of all written files, by state. Cold files are truncated before they reach the disk.
 */
static const off_t written_size[] = { 16 << 20, 64 << 20, 32 << 20 };

enum state { CACHED, COLD, DIRECT };
static const char *const state_names[] = { "cached", "cold", "direct" };
static enum state state;

struct slot {
    _Alignas(64) uint64_t done; /* a cache line of its own */
    uint64_t next;              /* next block of its own file */
    int fd;
    char *buffer;
};

static struct workload workload;
static struct slot *slots;
static size_t bytes;
static uint64_t milliseconds, seed;
static _Atomic uint64_t taken;
static _Atomic int exhausted;

static const struct call {
    const char *name;
    int (*call)(struct slot *);
    void (*files)(void);
} * chosen;

static const char *dir;
static const char *shared_path;
static int shared_fd, synced;
static unsigned bits;   /* the part of FILE that is read has 2^bits blocks */
static uint64_t blocks; /* of each written file */

static void expect(const char *call, ssize_t got, size_t wanted)
{
    if (got < 0)
        die(errno, "%s", call);
    if ((size_t)got != wanted)
        die(0, "%s: %zd of %zu bytes", call, got, wanted);
}

/* ---- The calls: each makes one, or returns 0 if there is nothing left to do ----------------- */

static int call_read(struct slot *slot)
{
    uint64_t n = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    if (n >> bits && state == COLD)
        return 0;
    expect("pread", pread(shared_fd, slot->buffer, bytes, (off_t)(permuted(n, bits, seed) * bytes)),
           bytes);
    return 1;
}

static int call_write(struct slot *slot)
{
    if (slot->next == blocks)
        return 0;
    expect("pwrite", pwrite(slot->fd, slot->buffer, bytes, (off_t)(slot->next++ * bytes)), bytes);
    /* Only a cold block cannot be written twice. */
    if (slot->next == blocks && (state != COLD || synced))
        slot->next = 0;
    return 1;
}

/* To open an existing file whose name is not cached, all names in the kernel's cache would have to
 * be dropped, which needs root and affects the whole machine. A name that was never looked up takes
 * the same slow path through the directory. */
static int call_open(struct slot *slot)
{
    (void)slot;
    if (state == COLD) {
        char path[4400];
        uint64_t n = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
        snprintf(path, sizeof path, "%s/%llx.%llx", dir, (unsigned long long)seed,
                 (unsigned long long)n);
        if (open(path, O_RDONLY | O_CLOEXEC) >= 0 || errno != ENOENT)
            die(errno, "%s: is there", path);
        return 1;
    }
    int fd = open(shared_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(errno, "open %s", shared_path);
    expect("close", close(fd), 0);
    return 1;
}

static int call_fsync(struct slot *slot)
{
    if (state != CACHED)
        call_write(slot);
    expect("fsync", fsync(slot->fd), 0);
    return 1;
}

/* ---- Their files ---------------------------------------------------------------------------- */

static void forget(int fd)
{
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) || posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM))
        die(0, "posix_fadvise refused");
}

static void read_through(int fd, const char *path, off_t size)
{
    static char chunk[1 << 16];
    for (off_t at = 0; at < size; at += (off_t)sizeof chunk)
        if (pread(fd, chunk, sizeof chunk, at) <= 0)
            die(errno, "%s", path);
}

static void files_to_read(void)
{
    struct stat st;
    shared_fd = open(shared_path, O_RDONLY | O_CLOEXEC | (state == DIRECT ? O_DIRECT : 0));
    if (shared_fd < 0 || fstat(shared_fd, &st))
        die(errno, "%s", shared_path);
    off_t size = state == CACHED && st.st_size > CACHED_SIZE ? CACHED_SIZE : st.st_size;
    while (((off_t)bytes << (bits + 1)) <= size)
        bits++;
    if (!bits)
        die(0, "%s: too small", shared_path);
    if (state == COLD)
        forget(shared_fd);
    if (state == CACHED)
        read_through(shared_fd, shared_path, size);
}

static void fill(int fd, const char *path, off_t size)
{
    static char chunk[1 << 16];
    memset(chunk, 'a', sizeof chunk);
    for (off_t at = 0; at < size; at += (off_t)sizeof chunk)
        expect(path, pwrite(fd, chunk, sizeof chunk, at), sizeof chunk);
    expect(path, fsync(fd), 0);
}

/* Creates one file per member. Files for cold writes are allocated again; truncation discards data
 * that was never written to disk. */
static void files_to_write(void)
{
    off_t size = synced ? SYNCED_SIZE : written_size[state] / (off_t)workload.count;
    blocks = (uint64_t)size / bytes;
    for (unsigned i = 0; i < workload.count; i++) {
        char path[4300];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s-%s.%u.%u", dir, state_names[state], chosen->name,
                 workload.count, i);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0 || fstat(fd, &st))
            die(errno, "%s", path);
        if (state == COLD) {
            int error = ftruncate(fd, 0) ? errno : posix_fallocate(fd, 0, size);
            if (error)
                die(error, "%s", path);
        } else if (st.st_size != size) {
            fill(fd, path, size);
        } else if (state == CACHED) {
            read_through(fd, path, size);
        }
        if (state == DIRECT) {
            close(fd);
            fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
            if (fd < 0)
                die(errno, "%s with O_DIRECT", path);
        }
        slots[i].fd = fd;
    }
}

static void no_files(void) {}

/* Discards the data that cold writes left in the page cache, so that it is not written to disk
 * during the next measurement. */
static void clean_up(void)
{
    for (unsigned i = 0; i < workload.count; i++)
        if (slots[i].fd > 0 && state == COLD && ftruncate(slots[i].fd, 0))
            die(errno, "ftruncate");
}

/* ---- The phase ------------------------------------------------------------------------------ */

static const struct call calls[] = {
    { "read", call_read, files_to_read },
    { "write", call_write, files_to_write },
    { "open", call_open, no_files },
    { "fsync", call_fsync, files_to_write },
};

/* Makes one call, because the first call has additional costs. It makes no fsync that waits for the
 * disk, because 256 of them in sequence would take too long. */
static void prepare(unsigned member)
{
    if (chosen->call != call_fsync || state == CACHED)
        chosen->call(&slots[member]);
}

static void work(unsigned member)
{
    struct slot *slot = &slots[member];
    const uint64_t end = atomic_load(&workload.started_ns) + milliseconds * 1000000;
    while (now_ns() < end) {
        if (!chosen->call(slot)) {
            atomic_store(&exhausted, 1);
            return;
        }
        slot->done++;
    }
}

static void *phase(void *unused)
{
    workload_start(&workload);
    unsigned long threads = status("\nThreads:");
    workload_join(&workload);
    uint64_t done = 0;
    for (unsigned i = 0; i < workload.count; i++)
        done += slots[i].done;
    say_phase(done, &workload.from, &workload.to, threads, atomic_load(&exhausted));
    return unused;
}

/* Stores the words and numbers of argv in the variables above; returns whether they are valid. */
static int understood(int argc, char **argv)
{
    if (argc != 10)
        return 0;
    workload.fibers = !strcmp(argv[1], "fibers");
    workload.count = (unsigned)strtoul(argv[2], NULL, 10);
    workload.workers = (unsigned)strtoul(argv[3], NULL, 10);
    milliseconds = strtoull(argv[4], NULL, 10);
    bytes = strtoul(argv[7], NULL, 10);
    int known = 0;
    for (int i = CACHED; i <= DIRECT; i++)
        if (!strcmp(argv[5], state_names[i])) {
            state = (enum state)i;
            known = 1;
        }
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(argv[6], calls[i].name))
            chosen = &calls[i];
    return known && chosen && (workload.fibers || !strcmp(argv[1], "pthreads")) && workload.count &&
           workload.workers && milliseconds && bytes && bytes % 4096 == 0 &&
           !(state == DIRECT && chosen->call == call_open);
}

int main(int argc, char **argv)
{
    workload.prepare = prepare;
    workload.work = work;
    if (!understood(argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    shared_path = argv[8];
    dir = argv[9];
    seed = fresh_seed();
    synced = chosen->call == call_fsync;
    char *memory = NULL;
    if (posix_memalign((void **)&slots, 64, sizeof *slots * workload.count) ||
        posix_memalign((void **)&memory, 4096, bytes * workload.count))
        die(ENOMEM, "%u buffers", workload.count);
    memset(slots, 0, sizeof *slots * workload.count);
    memset(memory, 'b', bytes * workload.count);
    for (unsigned i = 0; i < workload.count; i++)
        slots[i].buffer = memory + bytes * i;
    chosen->files();
    workload_run(&workload, phase, NULL);
    clean_up();
    return 0;
}
