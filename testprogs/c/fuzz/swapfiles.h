/* SPDX-License-Identifier: MIT */
/* swapfiles.h - the two files of a swap: creates and swaps them, and checks on which of them a call
 * acted. */
#ifndef FUZZ_SWAPFILES_H
#define FUZZ_SWAPFILES_H

#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/un.h>

#include "case.h"

enum swap_call {
    SWAP_SYNC,
    SWAP_READ,
    SWAP_RECV,
    SWAP_WRITE,
    SWAP_SEND,
    SWAP_STORE,
    SWAP_FLOCK,
    SWAP_ACCEPT,
    SWAP_CALLS
};
enum { SWAP_WITNESSES = 4, SWAP_ROUNDS = 3, SWAP_BLOCK = 4096 };

struct swap {
    enum swap_call call;
    int number;        /* the number under test */
    int first, second; /* the two files, under numbers of their own */
    int first_peer, second_peer;
    unsigned way; /* which variant of the call */
    volatile int stop;
    volatile unsigned turn;     /* the round for which the victim must make its call */
    volatile unsigned entering; /* ... is about to */
    volatile unsigned inside;   /* ... is known to be in it */
    volatile unsigned replaced; /* the round whose number another file has */
    volatile unsigned done;
    volatile pid_t thread;
    long result;
    int error;
    char *block; /* what is written, what was read */
};

static void fill(int fd)
{
    static const char zeros[SWAP_BLOCK];
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    while (write(fd, zeros, 1) > 0)
        ;
    fcntl(fd, F_SETFL, flags);
}

/* Reads everything that fill wrote, and returns how many bytes 'A' came after it. */
static size_t drain_marks(struct actor *self, int fd, size_t wanted)
{
    static const char mark = 'A';
    char buffer[SWAP_BLOCK];
    size_t marks = 0;
    while (marks < wanted) {
        struct pollfd readable = { .fd = fd, .events = POLLIN };
        int ready = (int)CALL(self, fd, poll(&readable, 1, 3000));
        if (ready == -1 && errno == EINTR)
            continue;
        if (ready <= 0)
            break;
        long n = MUST(self, fd, read(fd, buffer, sizeof buffer));
        if (n <= 0)
            break;
        for (long i = 0; i < n; i++)
            marks += buffer[i] == mark;
    }
    return marks;
}

static int listener(struct actor *self, const char *name, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    snprintf(address->sun_path, sizeof address->sun_path, "%s.%u", name, self->index);
    unlink(address->sun_path);
    int fd = (int)MUST(self, -1, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(self, fd, bind(fd, (struct sockaddr *)address, sizeof *address));
    MUST(self, fd, listen(fd, 4));
    return fd;
}

static int connected(struct actor *self, const struct sockaddr_un *address)
{
    int fd = (int)MUST(self, -1, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(self, fd, connect(fd, (const struct sockaddr *)address, sizeof *address));
    return fd;
}

static int swap_file(struct actor *self, const char *name, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "%s.%u", name, self->index);
    return (int)MUST(self, -1, open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600));
}

static void open_pair(struct actor *self, int is_socket, int *reader, int *writer)
{
    int ends[2] = { -1, -1 };
    if (is_socket)
        MUST(self, -1, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    else
        MUST(self, -1, pipe2(ends, O_CLOEXEC));
    *reader = ends[0];
    *writer = ends[1];
}

/* Creates both files such that a call on the wrong one is noticed. */
static void open_both(struct actor *self, struct swap *s, struct sockaddr_un *address)
{
    int is_socket = s->call == SWAP_RECV || s->call == SWAP_SEND;
    memset(s->block, 'A', SWAP_BLOCK);
    s->first_peer = s->second_peer = -1;
    switch (s->call) {
    case SWAP_SYNC:
        s->first = swap_file(self, "swap-a", 0);
        for (int i = 0; i < 8; i++)
            MUST(self, s->first, pwrite(s->first, s->block, SWAP_BLOCK, i * SWAP_BLOCK));
        open_pair(self, 0, &s->second,
                  &s->second_peer); /* fsync of a pipe is EINVAL, sync_file_range of it ESPIPE */
        break;
    case SWAP_READ:
    case SWAP_RECV:
        open_pair(self, is_socket, &s->first, &s->first_peer);
        open_pair(self, is_socket, &s->second, &s->second_peer);
        write_all(self, s->second_peer, "BBBB", 4);
        break;
    case SWAP_WRITE:
    case SWAP_SEND:
        open_pair(self, is_socket, &s->first_peer, &s->first);
        open_pair(self, is_socket, &s->second_peer, &s->second);
        fill(s->first);
        break;
    case SWAP_STORE:
        s->first = swap_file(self, "swap-a", O_DSYNC);
        s->second = swap_file(self, "swap-b", 0);
        break;
    case SWAP_FLOCK:
        s->first = swap_file(self, "swap-a", 0);
        s->second = swap_file(self, "swap-b", 0);
        s->first_peer = swap_file(self, "swap-a", 0);
        s->second_peer = swap_file(self, "swap-b", 0);
        MUST(self, s->first_peer, flock(s->first_peer, LOCK_EX));
        break;
    default:
        s->first = listener(self, "swap-a", &address[0]);
        s->second = listener(self, "swap-b", &address[1]);
        s->second_peer = connected(self, &address[1]);
        write_all(self, s->second_peer, "B", 1);
    }
}

/* Puts the second file under the number, or nothing. */
static void replace(struct actor *self, struct swap *s, unsigned how)
{
    int to = s->number;
    switch (how) {
    case 0: MUST(self, to, dup2(s->second, to)); break;
    case 1: MUST(self, to, dup3(s->second, to, O_CLOEXEC)); break;
    case 2:
        close_fd(self, to);
        MUST(self, to, dup2(s->second, to));
        break;
    case 3: close_fd(self, to); break;
    case 4: MUST(self, to, close_range((unsigned)to, (unsigned)to, 0)); break;
    default: MUST(self, to, syscall(SYS_dup2, s->second, to));
    }
}

/* Satisfies the victim's call if it waits. */
static void end_the_wait(struct actor *self, struct swap *s, const struct sockaddr_un *address)
{
    if (s->call == SWAP_READ || s->call == SWAP_RECV)
        write_all(self, s->first_peer, "AAAA", 4);
    else if (s->call == SWAP_FLOCK)
        MUST(self, s->first_peer, flock(s->first_peer, LOCK_UN));
    else if (s->call == SWAP_ACCEPT) {
        s->first_peer = connected(self, &address[0]);
        write_all(self, s->first_peer, "A", 1);
    }
}

static size_t unread(int fd)
{
    int n = 0;
    return ioctl(fd, FIONREAD, &n) ? 0 : (size_t)n;
}

static void check_swap(struct actor *self, struct swap *s)
{
    const char *error = s->result < 0 ? strerror(s->error) : "no error";
    char mark = '?';
    switch (s->call) {
    case SWAP_SYNC: REQUIRE(self, s->result == 0, "fsync acted on another file: %s", error); break;
    case SWAP_READ:
    case SWAP_RECV:
        REQUIRE(self, s->result == 4 && !memcmp(s->block, "AAAA", 4),
                "a read acted on another file: %ld, %.4s, %s", s->result, s->block, error);
        REQUIRE(self, unread(s->second) == 4, "a read took from another file");
        break;
    case SWAP_WRITE:
    case SWAP_SEND:
        REQUIRE(self, s->result == SWAP_BLOCK, "a write acted on another file: %ld, %s", s->result,
                error);
        REQUIRE(self, unread(s->second_peer) == 0, "a write went into another file");
        break;
    case SWAP_STORE: {
        struct stat first = { 0 }, second = { 0 };
        MUST(self, s->first, fstat(s->first, &first));
        MUST(self, s->second, fstat(s->second, &second));
        REQUIRE(
            self, s->result == SWAP_BLOCK && first.st_size == SWAP_BLOCK && second.st_size == 0,
            "a store acted on another file: %ld, %s; the right one has %ld bytes, the other %ld",
            s->result, error, (long)first.st_size, (long)second.st_size);
        break;
    }
    case SWAP_FLOCK:
        REQUIRE(self, s->result == 0, "flock acted on another file: %s", error);
        REQUIRE(self, flock(s->second_peer, LOCK_EX | LOCK_NB) == 0, "flock locked another file");
        break;
    default:
        REQUIRE(self, s->result >= 0, "accept acted on another file: %s", error);
        if (s->result >= 0) {
            read_all(self, (int)s->result, &mark, 1);
            REQUIRE(self, mark == 'A', "accept took a connection of another socket: %c", mark);
            close_fd(self, (int)s->result);
        }
    }
}

#endif
