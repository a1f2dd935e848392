/* SPDX-License-Identifier: MIT */
/* close_by_task.c - a descriptor is closed or replaced while a call on it waits, and another file
 * gets the number. The call must continue with the file on which it was made until it ends, and
 * must not touch the other file. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { LARGE = 1 << 20, OTHER = 9000 };

static char *large, *other_data;
static int other; /* a descriptor of the file that gets the number */
static int large_file;
static int sink; /* where sendfile_from sends to */

/* ---- The call that waits -------------------------------------------------------------------- */

struct call {
    const char *name;
    long (*make)(int fd);
    int (*open_it)(int *peer); /* opens its file, and the peer that lets it continue */
    void (*let_go)(int peer);
};

static long write_large(int fd) { return write(fd, large, LARGE); }

static long writev_large(int fd)
{
    struct iovec parts[] = { { large, LARGE / 2 }, { large + LARGE / 2, LARGE / 2 } };
    return writev(fd, parts, 2);
}

static long send_large(int fd) { return send(fd, large, LARGE, 0); }

static long sendfile_to(int fd)
{
    off_t at = 0;
    return sendfile(fd, large_file, &at, LARGE);
}

static long sendfile_from(int fd)
{
    long n = sendfile(sink, fd, NULL, LARGE);
    close(sink);
    return n;
}

static long read_some(int fd)
{
    char buf[100];
    return read(fd, buf, sizeof buf);
}

static long wait_for_event(int fd)
{
    struct epoll_event event;
    return epoll_wait(fd, &event, 1, -1);
}

static long splice_some(int fd)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    long n = splice(fd, NULL, ends[1], NULL, 100, 0);
    close(ends[0]);
    close(ends[1]);
    return n;
}

static long lock_exclusively(int fd) { return flock(fd, LOCK_EX); }

static long lock_open_file(int fd)
{
    struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    return fcntl(fd, F_OFD_SETLKW, &range);
}

static int pipe_writer(int *peer)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    *peer = ends[0];
    return ends[1];
}

static int full_pipe(int *peer)
{
    int end = pipe_writer(peer), size = fcntl(end, F_GETPIPE_SZ);
    if (size > LARGE || write(end, large, (size_t)size) != size)
        die("pipe of %d bytes", size);
    return end;
}

static int pipe_reader(int *peer)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    *peer = ends[1];
    return ends[0];
}

static int epoll_of_pipe(int *peer)
{
    struct epoll_event event = { .events = EPOLLIN };
    int end = pipe_reader(peer), set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, end, &event))
        die("epoll");
    return set;
}

static int socket_end(int *peer)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        die("socketpair");
    *peer = ends[0];
    return ends[1];
}

static int socket_end_with_timeout(int *peer)
{
    struct timeval time = { 20, 0 };
    int end = socket_end(peer);
    if (setsockopt(end, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time))
        die("SO_SNDTIMEO");
    return end;
}

static int file_and_socket(int *peer)
{
    sink = socket_end(peer);
    return open("large", O_RDONLY | O_CLOEXEC);
}

static int file_and_socket_with_timeout(int *peer)
{
    sink = socket_end_with_timeout(peer);
    return open("large", O_RDONLY | O_CLOEXEC);
}

/* The end of the stream shows that the file is no longer open anywhere: the number belongs to
 * another file, and the call is over. */
static void read_all(int peer)
{
    static char buf[1 << 16];
    uint64_t seen = HASH_START;
    size_t size = 0;
    for (ssize_t n; (n = read(peer, buf, sizeof buf)) > 0; size += (size_t)n)
        seen = hash(seen, buf, (size_t)n);
    printf("  its peer read %zu bytes, %016" PRIx64 "\n", size, seen);
}

static void write_some(int peer) { SHOW(write(peer, "some", 4)); }

static int locked_file(int *peer)
{
    struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int fd = open("locked", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    *peer = open("locked", O_RDWR | O_CLOEXEC);
    if (fd < 0 || *peer < 0 || flock(*peer, LOCK_EX) || fcntl(*peer, F_OFD_SETLK, &range))
        die("locked");
    return fd;
}

static void unlock(int peer)
{
    struct flock range = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
    if (flock(peer, LOCK_UN) || fcntl(peer, F_OFD_SETLK, &range))
        die("unlock");
}

static const struct call calls[] = {
    { "write", write_large, pipe_writer, read_all },
    { "writev", writev_large, pipe_writer, read_all },
    { "write to a socket", write_large, socket_end, read_all },
    { "send", send_large, socket_end, read_all },
    { "sendfile to a socket", sendfile_to, socket_end, read_all },
    { "sendfile to a socket with a timeout", sendfile_to, socket_end_with_timeout, read_all },
    { "sendfile to a pipe", sendfile_to, full_pipe, read_all },
    { "sendfile from a file", sendfile_from, file_and_socket, read_all },
    { "sendfile from a file, timeout", sendfile_from, file_and_socket_with_timeout, read_all },
    { "read", read_some, pipe_reader, write_some },
    { "read from a socket", read_some, socket_end, write_some },
    { "epoll_wait", wait_for_event, epoll_of_pipe, write_some },
    { "splice", splice_some, pipe_reader, write_some },
    { "flock", lock_exclusively, locked_file, unlock },
    { "fcntl", lock_open_file, locked_file, unlock },
};

/* ---- Closing and replacing its descriptor --------------------------------------------------- */

static void by_close(int fd) { SHOW(close(fd)); }
static void by_close_range(int fd) { SHOW(syscall(SYS_close_range, fd, fd, 0)); }
static void by_close_number(int fd) { SHOW(syscall(SYS_close, fd)); }

static void by_fclose(int fd)
{
    FILE *stream = fdopen(fd, "r+");
    if (!stream && !(stream = fdopen(fd, "r")) && !(stream = fdopen(fd, "w")))
        die("fdopen");
    SHOW(fclose(stream));
}

static void by_dup2(int fd) { SHOW_FD(dup2(other, fd)); }
static void by_dup3(int fd) { SHOW_FD(dup3(other, fd, O_CLOEXEC)); }
static void by_dup3_number(int fd) { SHOW_FD((int)syscall(SYS_dup3, other, fd, O_CLOEXEC)); }

static const struct {
    const char *name;
    void (*close_it)(int fd);
} ways[] = {
    { "close", by_close },
    { "close_range", by_close_range },
    { "close by number", by_close_number },
    { "fclose", by_fclose },
    { "dup2", by_dup2 },
    { "dup3", by_dup3 },
    { "dup3 by number", by_dup3_number },
};

/* ---- Both ----------------------------------------------------------------------------------- */

static const struct call *call;
static int fd;
static long result;
static int error;
static pid_t waiter_id;
static task_sem_t about_to_call;

static void *wait_in_call(void *arg)
{
    waiter_id = (pid_t)syscall(SYS_gettid);
    task_sem_post(&about_to_call);
    result = call->make(fd);
    error = errno;
    return arg;
}

static void try(const struct call *which, void (*close_it)(int))
{
    int peer;
    call = which;
    fd = call->open_it(&peer);
    task_t waiter = task_spawn(wait_in_call, NULL);
    await_call(&about_to_call, &waiter_id);
    close_it(fd);
    int taken = fcntl(fd, F_GETFD) < 0 ? open("other", O_RDWR | O_CLOEXEC) : fd;
    if (taken != fd)
        wrong("%d was closed, and %d opened", fd, taken);
    call->let_go(peer);
    task_join(waiter);
    if (result < 0)
        printf("  %s: %s\n", call->name, strerror(error));
    else
        printf("  %s: %ld\n", call->name, result);
    printf("  the other file is at %ld\n", (long)lseek(fd, 0, SEEK_CUR));
    close(fd);
    close(peer);
}

static void probe(void)
{
    char found[OTHER];
    make_file("other", OTHER);
    large = allocate(LARGE);
    pattern(large, LARGE, 1);
    make_file("large", LARGE);
    large_file = open("large", O_RDONLY | O_CLOEXEC);
    other_data = allocate(OTHER);
    pattern(other_data, OTHER, OTHER);
    other = open("other", O_RDWR | O_CLOEXEC);
    if (other < 0 || large_file < 0)
        die("open");
    task_sem_init(&about_to_call, 0);
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            printf("%s, %s\n", calls[c].name, ways[w].name);
            try(&calls[c], ways[w].close_it);
            if (pread(other, found, OTHER, 0) != OTHER || memcmp(found, other_data, OTHER))
                printf("  the other file has changed\n");
        }
}
