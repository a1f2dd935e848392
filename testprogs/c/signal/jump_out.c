/* SPDX-License-Identifier: MIT */
/* jump_out.c - a handler jumps out of calls that keep their files while they wait. Closing and
 * replacing the descriptors of these calls later must not touch what the calls have left. */
#define _GNU_SOURCE
#include "background_task.h"

#include <setjmp.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { LARGE = 1 << 20, ROUNDS = 4 };

static sigjmp_buf back;
static int file, locked, ends[2], pair[2];
static char *large;

static void on_tick(int signal) { siglongjmp(back, signal); }

static void tick(long every_us)
{
    struct itimerval timer = { { 0, every_us }, { 0, every_us } };
    if (setitimer(ITIMER_REAL, &timer, NULL))
        die("setitimer");
}

static long wait_for_flock(void) { return flock(file, LOCK_EX); }

static long wait_for_record_lock(void)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    return fcntl(file, F_OFD_SETLKW, &whole);
}

static long send_file(void)
{
    off_t at = 0;
    return sendfile(pair[0], file, &at, LARGE);
}

static int into[2];
static long splice_some(void) { return splice(ends[0], NULL, into[1], NULL, 10, 0); }
static long read_pipe(void) { return read(ends[0], large, 1); }
static long write_socket(void) { return write(pair[0], large, LARGE); }

static const struct {
    const char *name;
    long (*call)(void);
} calls[] = {
    { "flock", wait_for_flock }, { "fcntl", wait_for_record_lock },
    { "sendfile", send_file },   { "splice", splice_some },
    { "read", read_pipe },       { "write", write_socket },
};

/* Overwrites the frames that the jump has left. */
__attribute__((noinline)) static void overwrite_stack(void)
{
    volatile char frame[6000];
    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = 0x41;
}

static void open_files(void)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    file = open("file", O_RDWR | O_CLOEXEC);
    locked = open("file", O_RDWR | O_CLOEXEC);
    if (file < 0 || flock(locked, LOCK_EX) || fcntl(locked, F_OFD_SETLK, &whole) ||
        pipe2(ends, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        die("setup");
}

static void close_files(void)
{
    const int files[] = { file, locked, ends[0], ends[1], pair[0], pair[1] };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (dup2(into[0], files[i]) != files[i] || close(files[i]))
            die("close");
}

static void probe(void)
{
    background_begin();
    signal(SIGALRM, on_tick);
    make_file("file", LARGE);
    large = allocate(LARGE);
    memset(large, 1, LARGE);
    if (pipe2(into, O_CLOEXEC))
        die("pipe2");
    for (volatile size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (volatile int round = 0; round < ROUNDS; round++) {
            open_files();
            if (sigsetjmp(back, 1) == 0) {
                tick(3000);
                calls[i].call();
                wrong("%s came back", calls[i].name);
            }
            tick(0);
            overwrite_stack();
            close_files();
            printf("jumped out of %s\n", calls[i].name);
        }
    background_end();
}
