/* SPDX-License-Identifier: MIT */
/* transfers.h - cases with read(2), write(2), open(2) and related calls on pipes and FIFOs;
 * transfers at an offset are held. */

static void read_call(unsigned i)
{
    char byte;
    (void)i;
    must(CALL(ssize_t(*)(int, void *, size_t), read, ends[0], &byte, 1) == 1, "read");
}

static void read_chk_call(unsigned i)
{
    char byte;
    (void)i;
    must(((ssize_t(*)(int, void *, size_t, size_t))named)(ends[0], &byte, 1, 1) == 1, "read_chk");
}

static void readv_call(unsigned i)
{
    char byte;
    struct iovec part = { &byte, 1 };
    (void)i;
    must(CALL(ssize_t(*)(int, const struct iovec *, int), readv, ends[0], &part, 1) == 1, "readv");
}

static void preadv2_call(unsigned i)
{
    char byte;
    struct iovec part = { &byte, 1 };
    (void)i;
    must(CALL(ssize_t(*)(int, const struct iovec *, int, off_t, int), preadv2, ends[0], &part, 1,
              -1, 0) == 1,
         "preadv2");
}

static char some[8192];

static void write_call(unsigned i)
{
    (void)i;
    must(CALL(ssize_t(*)(int, const void *, size_t), write, ends[1], some, sizeof some) ==
             sizeof some,
         "write");
}

static void writev_call(unsigned i)
{
    struct iovec part = { some, sizeof some };
    (void)i;
    must(CALL(ssize_t(*)(int, const struct iovec *, int), writev, ends[1], &part, 1) == sizeof some,
         "writev");
}

static void pwritev2_call(unsigned i)
{
    struct iovec part = { some, sizeof some };
    (void)i;
    must(CALL(ssize_t(*)(int, const struct iovec *, int, off_t, int), pwritev2, ends[1], &part, 1,
              -1, 0) == sizeof some,
         "pwritev2");
}

/* ---- At an offset --------------------------------------------------------------------------- */

static int file;

static void open_file(void)
{
    make_one(path);
    file = open(path, O_RDWR | O_CLOEXEC);
    must(file >= 0, path);
}

/* Every write to this file waits for the disk. Other writes only copy data, and the shim makes them
 * inline. */
static void open_synced_file(void)
{
    make_one(path);
    file = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
    must(file >= 0, path);
}

static void pread_call(unsigned i)
{
    char byte;
    must(CALL(ssize_t(*)(int, void *, size_t, off_t), pread, file, &byte, 1, i % 8) == 1, "pread");
}

static void pread_chk_call(unsigned i)
{
    char byte;
    must(((ssize_t(*)(int, void *, size_t, off_t, size_t))named)(file, &byte, 1, i % 8, 1) == 1,
         "pread_chk");
}

static void pwrite_call(unsigned i)
{
    must(CALL(ssize_t(*)(int, const void *, size_t, off_t), pwrite, file, "x", 1, i) == 1,
         "pwrite");
}

static void preadv_call(unsigned i)
{
    char byte;
    struct iovec part = { &byte, 1 };
    must(CALL(ssize_t(*)(int, const struct iovec *, int, off_t), preadv, file, &part, 1, i % 8) ==
             1,
         "preadv");
}

static void pwritev_call(unsigned i)
{
    struct iovec part = { some, 1 };
    must(CALL(ssize_t(*)(int, const struct iovec *, int, off_t), pwritev, file, &part, 1, i) == 1,
         "pwritev");
}

static void fsync_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(int), fsync, file) == 0, "fsync");
}

/* ---- open ----------------------------------------------------------------------------------- */

static void make_fifo(void) { must(mkfifo("fifo", 0600) == 0, "mkfifo"); }

/* Opens the end that the tasks wait for, and closes it. */
static void open_for_writing(void)
{
    int fd = open("fifo", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
}

static void open_for_reading(void)
{
    int fd = open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        drain(fd);
        close(fd);
    }
}

static void opened(int fd)
{
    must(fd >= 0, "open");
    close(fd);
}

static void open_call(unsigned i)
{
    (void)i;
    opened(CALL(int (*)(const char *, int, ...), open, "fifo", O_RDONLY | O_CLOEXEC));
}

static void open_2_call(unsigned i)
{
    (void)i;
    opened(((int (*)(const char *, int))named)("fifo", O_RDONLY | O_CLOEXEC));
}

static void openat_call(unsigned i)
{
    (void)i;
    opened(
        CALL(int (*)(int, const char *, int, ...), openat, AT_FDCWD, "fifo", O_RDONLY | O_CLOEXEC));
}

static void openat_2_call(unsigned i)
{
    (void)i;
    opened(((int (*)(int, const char *, int))named)(AT_FDCWD, "fifo", O_RDONLY | O_CLOEXEC));
}

static void creat_call(unsigned i)
{
    (void)i;
    opened(CALL(int (*)(const char *, mode_t), creat, "fifo", 0600));
}

static const struct blocking transfers[] = {
    { "read __read", make_pipe, read_call, feed_pipe, 0, { 0 }, 0 },
    { "__read_chk", make_pipe, read_chk_call, feed_pipe, 0, { 0 }, 0 },
    { "readv", make_pipe, readv_call, feed_pipe, 0, { 0 }, 0 },
    { "preadv2 preadv64v2", make_pipe, preadv2_call, feed_pipe, 0, { 0 }, 0 },
    { "write __write", make_full_pipe, write_call, drain_pipe, 0, { 0 }, 0 },
    { "writev", make_full_pipe, writev_call, drain_pipe, 0, { 0 }, 0 },
    { "pwritev2 pwritev64v2", make_full_pipe, pwritev2_call, drain_pipe, 0, { 0 }, 0 },
    { "pread pread64 __pread64", open_file, pread_call, NULL, 0, { SYS_pread64 }, 0 },
    { "__pread_chk __pread64_chk", open_file, pread_chk_call, NULL, 0, { SYS_pread64 }, 0 },
    { "pwrite pwrite64 __pwrite64", open_synced_file, pwrite_call, NULL, 0, { SYS_pwrite64 }, 0 },
    { "preadv preadv64", open_file, preadv_call, NULL, 0, { SYS_preadv }, 0 },
    { "pwritev pwritev64", open_synced_file, pwritev_call, NULL, 0, { SYS_pwritev }, 0 },
    { "fsync fdatasync", open_file, fsync_call, NULL, 0, { SYS_fsync, SYS_fdatasync }, 0 },
    { "open open64 __open __open64", make_fifo, open_call, open_for_writing, 0, { 0 }, 0 },
    { "__open_2 __open64_2", make_fifo, open_2_call, open_for_writing, 0, { 0 }, 0 },
    { "openat openat64", make_fifo, openat_call, open_for_writing, 0, { 0 }, 0 },
    { "__openat_2 __openat64_2", make_fifo, openat_2_call, open_for_writing, 0, { 0 }, 0 },
    { "creat creat64", make_fifo, creat_call, open_for_reading, 0, { 0 }, 0 },
};
