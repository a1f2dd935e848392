/* SPDX-License-Identifier: MIT */
/* splice.c - data moved inside the kernel: results, positions, and that a wait for a peer blocks
 * only its own task. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "slow_lookup.h"

enum { FILE_SIZE = 300000, LARGE = 1 << 20 };

static char buf[LARGE];

static void make_pipe(int ends[2], int flags)
{
    if (pipe2(ends, O_CLOEXEC | flags) || fcntl(ends[1], F_SETPIPE_SZ, 65536) != 65536)
        die("pipe");
}

static void make_sockets(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        die("socketpair");
}

static void close_both(int ends[2])
{
    if (close(ends[0]) || close(ends[1]))
        die("close");
}

static void fill(int pipe_end, int size)
{
    pattern(buf, (size_t)size, (uint64_t)size);
    write_full(pipe_end, buf, (size_t)size);
}

static void drain(int fd)
{
    size_t n = read_full(fd, buf, sizeof buf);
    printf("  %zu bytes, %016" PRIx64 "\n", n, hash(HASH_START, buf, n));
}

static int reopen(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        die("%s", path);
    return fd;
}

/* ---- Files ---------------------------------------------------------------------------------- */

static void show_position(int fd) { printf("  position %jd\n", (intmax_t)lseek(fd, 0, SEEK_CUR)); }

static void copies(void)
{
    int from = reopen("file", O_RDONLY), to = reopen("copy", O_RDWR | O_CREAT | O_TRUNC);
    off_t in = 1000, out = 5;
    if (dup3(from, SLOW_FD, O_CLOEXEC) < 0)
        die("dup3");
    TRY(copy_file_range(SLOW_FD, NULL, to, NULL, 70000, 0));
    show_position(from);
    show_position(to);
    TRY(copy_file_range(SLOW_FD, &in, to, &out, 70000, 0));
    printf("  at %jd, %jd\n", (intmax_t)in, (intmax_t)out);
    TRY(copy_file_range(SLOW_FD, NULL, to, &out, FILE_SIZE, 0));
    show_position(from);
    TRY(copy_file_range(SLOW_FD, NULL, to, NULL, 10, 0));
    TRY(copy_file_range(SLOW_FD, NULL, to, NULL, 10, 1));
    TRY(copy_file_range(to, NULL, SLOW_FD, NULL, 10, 0));
    TRY(copy_file_range(to, NULL, to, NULL, 10, 0));
    TRY(copy_file_range(-1, NULL, to, NULL, 10, 0));
    TRY(copy_file_range(SLOW_FD, (off_t *)16, to, NULL, 10, 0));
    in = 100;
    TRY(sendfile(to, SLOW_FD, &in, 50000));
    printf("  at %jd\n", (intmax_t)in);
    show_position(to);
    SHOW(lseek(from, 10, SEEK_SET));
    TRY(sendfile(to, SLOW_FD, NULL, 50000));
    show_position(from);
    show_position(to);
    TRY(sendfile(to, SLOW_FD, NULL, 0));
    TRY(sendfile(-1, SLOW_FD, NULL, 10));
    TRY(sendfile(SLOW_FD, to, NULL, 10));
    TRY(sendfile(to, SLOW_FD, (off_t *)16, 10));
    in = -1;
    TRY(sendfile(to, SLOW_FD, &in, 10));
    close(from);
    close(to);
    close(SLOW_FD);
    show_file("copy");
}

static void through_pipes(int flags)
{
    int file = reopen("file", O_RDONLY), to = reopen("copy", O_RDWR | O_CREAT | O_TRUNC),
        pipe_ends[2], other[2];
    off_t at = 3000;
    make_pipe(pipe_ends, flags);
    make_pipe(other, flags);
    if (dup3(file, SLOW_FD, O_CLOEXEC) < 0)
        die("dup3");
    TRY(splice(SLOW_FD, &at, pipe_ends[1], NULL, 10000, 0));
    printf("  at %jd\n", (intmax_t)at);
    TRY(splice(SLOW_FD, NULL, pipe_ends[1], NULL, 10000, SPLICE_F_MOVE));
    show_position(file);
    TRY(tee(pipe_ends[0], other[1], 15000, 0));
    TRY(splice(pipe_ends[0], NULL, to, NULL, 8000, 0));
    show_position(to);
    TRY(splice(pipe_ends[0], NULL, other[1], NULL, 50000, 0));
    TRY(splice(pipe_ends[0], NULL, other[1], NULL, 50000, SPLICE_F_NONBLOCK));
    TRY(tee(pipe_ends[0], other[1], 50000, SPLICE_F_NONBLOCK));
    TRY(sendfile(pipe_ends[1], SLOW_FD, &at, 9000));
    printf("  at %jd\n", (intmax_t)at);
    struct iovec parts[2] = { { buf, 3000 }, { buf + 10000, 4000 } };
    TRY(vmsplice(pipe_ends[1], parts, 2, 0));
    TRY(vmsplice(pipe_ends[0], parts, 2, 0));
    TRY(vmsplice(pipe_ends[1], parts, 2, 0x100));
    TRY(vmsplice(file, parts, 2, 0));
    TRY(splice(SLOW_FD, &at, to, NULL, 10, 0));
    TRY(splice(SLOW_FD, &at, pipe_ends[1], &at, 10, 0));
    TRY(splice(-1, NULL, pipe_ends[1], NULL, 10, 0));
    TRY(splice(pipe_ends[0], NULL, -1, NULL, 10, 0));
    TRY(splice(pipe_ends[0], NULL, pipe_ends[1], NULL, 10, 0));
    TRY(splice(SLOW_FD, (off_t *)16, pipe_ends[1], NULL, 10, 0));
    TRY(tee(SLOW_FD, pipe_ends[1], 10, 0));
    TRY(tee(pipe_ends[0], pipe_ends[1], 10, 0));
    close(pipe_ends[1]);
    close(other[1]);
    drain(pipe_ends[0]);
    drain(other[0]);
    TRY(splice(pipe_ends[0], NULL, to, NULL, 10, 0));
    close(pipe_ends[0]);
    close(other[0]);
    /* Without a reader. */
    make_pipe(pipe_ends, 0);
    close(pipe_ends[0]);
    TRY(splice(SLOW_FD, &at, pipe_ends[1], NULL, 10, 0));
    TRY(sendfile(pipe_ends[1], SLOW_FD, &at, 10));
    TRY(vmsplice(pipe_ends[1], parts, 1, 0));
    close(pipe_ends[1]);
    close(file);
    close(to);
    close(SLOW_FD);
    show_file("copy");
}

/* With O_NONBLOCK no call waits. */
static void at_once(void)
{
    int file = reopen("file", O_RDONLY), empty[2], full[2], sockets[2];
    off_t at = 0;
    make_pipe(empty, O_NONBLOCK);
    make_pipe(full, O_NONBLOCK);
    make_sockets(sockets);
    fill(full[1], 65536);
    SHOW(splice(empty[0], NULL, full[1], NULL, 10, 0));
    SHOW(tee(empty[0], full[1], 10, 0));
    SHOW(splice(file, &at, full[1], NULL, 10, 0));
    SHOW(sendfile(full[1], file, &at, 10));
    SHOW(splice(empty[0], NULL, sockets[0], NULL, 10, SPLICE_F_NONBLOCK));
    SHOW(vmsplice(full[1], &(struct iovec){ buf, 10 }, 1, SPLICE_F_NONBLOCK));
    if (fcntl(sockets[0], F_SETFL, O_NONBLOCK))
        die("F_SETFL");
    SHOW(splice(sockets[0], NULL, empty[1], NULL, 10, 0));
    ssize_t n, all = 0;
    at = 0;
    while ((n = sendfile(sockets[0], file, &at, FILE_SIZE)) > 0)
        all += n;
    printf("to a full socket: %s, %s\n", strerror(errno),
           all > 0 && all == at ? "some before" : "nothing before");
    close(file);
    close_both(empty);
    close_both(full);
    close_both(sockets);
}

/* ---- Peers ---------------------------------------------------------------------------------- */

static int in[2], out[2], file;
static volatile int done;

#define WAITING(name, call)                                     \
    static void *name(void *arg)                                \
    {                                                           \
        off_t at = 7;                                           \
        (void)at;                                               \
        errno = ERRNO_UNTOUCHED;                                \
        long result = call;                                     \
        int error = errno;                                      \
        done = 1;                                               \
        printf("%s: %ld%s\n", #call, result,                    \
               result < 0                 ? strerror(error)     \
               : error == ERRNO_UNTOUCHED ? ""                  \
                                          : ", errno changed"); \
        return arg;                                             \
    }

WAITING(splice_both, splice(in[0], NULL, out[1], NULL, 1000, 0))
WAITING(tee_both, tee(in[0], out[1], 1000, 0))
WAITING(splice_to_file, splice(in[0], NULL, file, NULL, 1000, 0))
WAITING(splice_from_file, splice(file, &at, out[1], NULL, 4096, 0))
WAITING(sendfile_to_pipe, sendfile(out[1], file, &at, 4096))
WAITING(vmsplice_to_pipe, vmsplice(out[1], &(struct iovec){ buf, 4096 }, 1, 0))
WAITING(vmsplice_from_pipe, vmsplice(in[0], &(struct iovec){ buf, 4096 }, 1, 0))
WAITING(sendfile_large, sendfile(out[1], file, NULL, FILE_SIZE + 5))
WAITING(splice_to_socket, splice(in[0], NULL, out[1], NULL, 60000, 0))

static void go_on(const char *what)
{
    for (int i = 0; i < 50; i++) {
        char byte;
        task_yield();
        if (pread(file, &byte, 1, i) != 1)
            die("pread");
    }
    printf("%s: another task goes on%s\n", what, done ? ", too early" : "");
}

/* A task that waits for data. */
static void waits_for_data(const char *what, void *(*wait)(void *), int from_socket)
{
    if (from_socket)
        make_sockets(in);
    else
        make_pipe(in, 0);
    make_pipe(out, 0);
    done = 0;
    task_t task = task_spawn(wait, NULL);
    go_on(what);
    fill(in[1], 700);
    task_join(task);
    close(out[1]);
    drain(out[0]);
    close(out[0]);
    close_both(in);
}

/* A task that waits for the end of data. */
static void waits_for_end(const char *what, void *(*wait)(void *))
{
    make_pipe(in, 0);
    make_pipe(out, 0);
    done = 0;
    task_t task = task_spawn(wait, NULL);
    go_on(what);
    close(in[1]);
    task_join(task);
    close(in[0]);
    close_both(out);
}

/* A task that waits for space. */
static void waits_for_room(const char *what, void *(*wait)(void *))
{
    make_pipe(in, 0);
    make_pipe(out, 0);
    fill(out[1], 65536);
    fill(in[1], 3000);
    done = 0;
    task_t task = task_spawn(wait, NULL);
    go_on(what);
    read_full(out[0], buf, 65536);
    task_join(task);
    close(out[1]);
    drain(out[0]);
    close(out[0]);
    close_both(in);
}

static void to_sockets(void)
{
    char *all = allocate(LARGE);
    make_sockets(out);
    done = 0;
    task_t task = task_spawn(sendfile_large, NULL);
    go_on("sendfile to a socket");
    size_t n = 0;
    while (n < FILE_SIZE) {
        ssize_t got = read(out[0], all + n, LARGE - n);
        if (got <= 0)
            die("read");
        n += (size_t)got;
    }
    task_join(task);
    show_data("from the socket", all, n);
    show_position(file);
    /* All data arrives although the pipe is small, and the end of the data ends the call. */
    make_pipe(in, 0);
    done = 0;
    fill(in[1], 60000);
    while (send(out[1], buf, 4096, MSG_DONTWAIT) > 0)
        continue;
    task = task_spawn(splice_to_socket, NULL);
    go_on("splice to a full socket");
    while (recv(out[0], all, LARGE, MSG_DONTWAIT) > 0 || !done)
        task_yield();
    task_join(task);
    close_both(in);
    /* A peer that closes its end. */
    done = 0;
    close(out[0]);
    off_t at = 0;
    SHOW(sendfile(out[1], file, &at, 1000));
    close(out[1]);
    free(all);
}

static void probe(void)
{
    signal(SIGPIPE, SIG_IGN);
    make_file("file", FILE_SIZE);
    slow_lookup_begin();
    for (lookups_are_slow = 0; lookups_are_slow < 2; lookups_are_slow++) {
        copies();
        through_pipes(0);
        through_pipes(O_NONBLOCK);
    }
    lookups_are_slow = 0;
    at_once();
    file = reopen("file", O_RDWR);
    waits_for_data("splice", splice_both, 0);
    waits_for_data("splice from a socket", splice_both, 1);
    waits_for_data("splice to a file", splice_to_file, 0);
    waits_for_data("tee", tee_both, 0);
    waits_for_data("vmsplice", vmsplice_from_pipe, 0);
    waits_for_end("splice", splice_both);
    waits_for_end("tee", tee_both);
    waits_for_room("splice", splice_both);
    waits_for_room("splice from a file", splice_from_file);
    waits_for_room("sendfile", sendfile_to_pipe);
    waits_for_room("vmsplice", vmsplice_to_pipe);
    if (lseek(file, 0, SEEK_SET))
        die("lseek");
    to_sockets();
    slow_lookup_end();
}
