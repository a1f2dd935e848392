/* SPDX-License-Identifier: MIT */
/* aliases.c - sockets, poll and select under every name that a binary may import. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

/* As in aliases.c: the headers redirect some names, and declare few of the others. */
#define NAME(type, symbol, ...) extern type by_##symbol(__VA_ARGS__) __asm__(#symbol)
typedef struct sockaddr *name;
typedef const struct sockaddr *target;
typedef struct timespec *span;

NAME(ssize_t, recv, int, void *, size_t, int);
NAME(ssize_t, __recv_chk, int, void *, size_t, size_t, int);
NAME(ssize_t, recvfrom, int, void *, size_t, int, name, socklen_t *);
NAME(ssize_t, __recvfrom_chk, int, void *, size_t, size_t, int, name, socklen_t *);
NAME(ssize_t, recvmsg, int, struct msghdr *, int);
NAME(int, recvmmsg, int, struct mmsghdr *, unsigned, int, span);
NAME(ssize_t, send, int, const void *, size_t, int);
NAME(ssize_t, __send, int, const void *, size_t, int);
NAME(ssize_t, sendto, int, const void *, size_t, int, target, socklen_t);
NAME(ssize_t, sendmsg, int, const struct msghdr *, int);
NAME(int, sendmmsg, int, struct mmsghdr *, unsigned, int);
NAME(int, accept, int, name, socklen_t *);
NAME(int, accept4, int, name, socklen_t *, int);
NAME(int, connect, int, target, socklen_t);
NAME(int, __connect, int, target, socklen_t);
NAME(int, poll, struct pollfd *, nfds_t, int);
NAME(int, __poll, struct pollfd *, nfds_t, int);
NAME(int, __poll_chk, struct pollfd *, nfds_t, int, size_t);
NAME(int, ppoll, struct pollfd *, nfds_t, span, const sigset_t *);
NAME(int, __ppoll_chk, struct pollfd *, nfds_t, span, const sigset_t *, size_t);
NAME(int, select, int, fd_set *, fd_set *, fd_set *, struct timeval *);
NAME(int, __select, int, fd_set *, fd_set *, fd_set *, struct timeval *);
NAME(int, pselect, int, fd_set *, fd_set *, fd_set *, span, const sigset_t *);
NAME(int, epoll_wait, int, struct epoll_event *, int, int);
NAME(int, epoll_pwait, int, struct epoll_event *, int, int, const sigset_t *);

static int ends[2];
static char buf[300];

/* One line per name: "name: result data". */
#define CALL(symbol, ...) shown(#symbol, by_##symbol(__VA_ARGS__))

static void shown(const char *symbol, ssize_t result)
{
    printf("%s: %zd %016" PRIx64 "\n", symbol, result, hash(HASH_START, buf, sizeof buf));
}

static struct mmsghdr message_of(struct iovec *part)
{
    return (struct mmsghdr){ .msg_hdr = { .msg_iov = part, .msg_iovlen = 1 } };
}

static void transfers(void)
{
    static const char text[] = "twelve bytes";
    struct iovec to = { (void *)(uintptr_t)text, 12 }, from = { buf, sizeof buf };
    struct mmsghdr out = message_of(&to), in = message_of(&from);
    CALL(send, ends[0], text, 12, 0);
    CALL(recv, ends[1], buf, sizeof buf, 0);
    CALL(__send, ends[0], text, 11, 0);
    CALL(__recv_chk, ends[1], buf, sizeof buf, sizeof buf, 0);
    CALL(sendto, ends[0], text, 10, 0, NULL, 0);
    CALL(recvfrom, ends[1], buf, sizeof buf, 0, NULL, NULL);
    CALL(sendmsg, ends[0], &out.msg_hdr, 0);
    CALL(__recvfrom_chk, ends[1], buf, sizeof buf, sizeof buf, 0, NULL, NULL);
    CALL(sendmmsg, ends[0], &out, 1, 0);
    CALL(recvmsg, ends[1], &in.msg_hdr, 0);
    by_send(ends[0], text, 9, 0);
    CALL(recvmmsg, ends[1], &in, 1, 0, NULL);
}

static void waits(void)
{
    struct pollfd polled = { ends[1], POLLIN, 0 };
    struct timespec limit = { 100, 0 };
    fd_set set;
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, ends[1], &event))
        die("epoll");
    by_send(ends[0], "x", 1, 0);
    CALL(poll, &polled, 1, -1);
    CALL(__poll, &polled, 1, -1);
    CALL(__poll_chk, &polled, 1, -1, sizeof polled);
    CALL(ppoll, &polled, 1, &limit, NULL);
    CALL(__ppoll_chk, &polled, 1, &limit, NULL, sizeof polled);
    FD_ZERO(&set);
    FD_SET(ends[1], &set);
    CALL(select, ends[1] + 1, &set, NULL, NULL, NULL);
    CALL(__select, ends[1] + 1, &set, NULL, NULL, NULL);
    CALL(pselect, ends[1] + 1, &set, NULL, NULL, &limit, NULL);
    CALL(epoll_wait, epoll, &event, 1, -1);
    CALL(epoll_pwait, epoll, &event, 1, -1, NULL);
    close(epoll);
}

static void connections(void)
{
    struct sockaddr_in address;
    int listener = bound(SOCK_STREAM, &address), clients[2];
    if (listen(listener, 2))
        die("listen");
    for (int i = 0; i < 2; i++)
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CALL(connect, clients[0], (target)&address, sizeof address);
    CALL(__connect, clients[1], (target)&address, sizeof address);
    shown("accept", by_accept(listener, NULL, NULL) >= 0);
    shown("accept4", by_accept4(listener, NULL, NULL, SOCK_CLOEXEC) >= 0);
    close_pair(clients);
    close(listener);
}

static void probe(void)
{
    make_pair(UNIX_STREAM, ends);
    transfers();
    waits();
    connections();
    close_pair(ends);
}
