/* SPDX-License-Identifier: MIT */
/* timeouts.c - SO_RCVTIMEO, SO_SNDTIMEO and SO_RCVLOWAT: calls that wait end at their timeout, and
 * other tasks run in the meantime. */
#define _GNU_SOURCE
#include "blocking_task.h"

#include <sys/time.h>

static void set_time(int fd, int option, int millis)
{
    struct timeval time = { millis / 1000, millis % 1000 * 1000 };
    if (setsockopt(fd, SOL_SOCKET, option, &time, sizeof time))
        die("setsockopt");
}

static long by_recv(blocking_t *w) { return recv(w->fd, w->buf, w->size, 0); }
static long by_recvfrom(blocking_t *w)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    long n = recvfrom(w->fd, w->buf, w->size, 0, (struct sockaddr *)&from, &len);
    blocking_note(w, "length: %u\n", len);
    return n;
}
static long by_recvmsg(blocking_t *w)
{
    struct iovec part = { w->buf, w->size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_flags = 77 };
    long n = recvmsg(w->fd, &message, 0);
    blocking_note(w, "flags: %d\n", message.msg_flags);
    return n;
}
static long by_recvmmsg(blocking_t *w)
{
    struct iovec parts[2] = { { w->buf, w->size }, { w->buf, w->size } };
    struct mmsghdr messages[2] = { { .msg_hdr = { .msg_iov = &parts[0], .msg_iovlen = 1 } },
                                   { .msg_hdr = { .msg_iov = &parts[1], .msg_iovlen = 1 } } };
    return recvmmsg(w->fd, messages, 2, 0, NULL);
}
static long by_waitall(blocking_t *w) { return recv(w->fd, w->buf, w->size, MSG_WAITALL); }
static long by_read(blocking_t *w) { return read(w->fd, w->buf, w->size); }
static long by_readv(blocking_t *w)
{
    struct iovec part = { w->buf, w->size };
    return readv(w->fd, &part, 1);
}
static long by_send(blocking_t *w) { return send(w->fd, w->buf, w->size, 0); }
static long by_write(blocking_t *w) { return write(w->fd, w->buf, w->size); }
static long by_sendmsg(blocking_t *w)
{
    struct iovec part = { w->buf, w->size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    return sendmsg(w->fd, &message, 0);
}
static long by_accept(blocking_t *w) { return accept(w->fd, NULL, NULL); }

static const struct {
    const char *name;
    long (*call)(blocking_t *);
} receives[] = {
    { "recv", by_recv },       { "recvfrom", by_recvfrom },
    { "recvmsg", by_recvmsg }, { "recvmmsg", by_recvmmsg },
    { "waitall", by_waitall }, { "read", by_read }, { "readv", by_readv },
}, sends[] = { { "send", by_send }, { "write", by_write }, { "sendmsg", by_sendmsg } };
#define COUNT(array) (sizeof(array) / sizeof *(array))

static char room[1 << 20];

static void receive(enum kind kind)
{
    int ends[2];
    make_pair(kind, ends);
    set_time(ends[1], SO_RCVTIMEO, 30);
    for (size_t i = 0; i < COUNT(receives); i++) {
        blocking_t w = { .call = receives[i].call, .fd = ends[1], .buf = room, .size = 8 };
        blocking_show((blocking_start(&w), &w), receives[i].name);
    }
    /* Data that arrives in time. If only a part has arrived at the timeout, the call returns that
     * part. */
    set_time(ends[1], SO_RCVTIMEO, 60000);
    for (size_t i = 0; i < COUNT(receives); i++) {
        blocking_t w = { .call = receives[i].call, .fd = ends[1], .buf = room, .size = 8 };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(send(ends[0], "12345678", 8, 0));
        if (receives[i].call == by_recvmmsg)
            SHOW(send(ends[0], "12345678", 8, 0));
        blocking_show(&w, receives[i].name);
    }
    set_time(ends[1], SO_RCVTIMEO, 50);
    SHOW(send(ends[0], "123", 3, 0));
    blocking_t w = { .call = by_waitall, .fd = ends[1], .buf = room, .size = 8 };
    blocking_show((blocking_start(&w), &w), "waitall of a part");
    SHOW(send(ends[0], "123", 3, 0));
    w.call = by_recvmmsg;
    blocking_show((blocking_start(&w), &w), "recvmmsg of a part");
    /* Sets the option through another descriptor of the same socket, after this one was used. */
    set_time(ends[1], SO_RCVTIMEO, 0);
    int other = dup(ends[1]);
    SHOW(send(ends[0], "123", 3, 0));
    SHOW(recv(ends[1], room, 8, 0));
    set_time(other, SO_RCVTIMEO, 30);
    w.call = by_recv;
    blocking_show((blocking_start(&w), &w), "the time of a duplicate");
    close(other);
    close_pair(ends);
}

static void transmit(enum kind kind)
{
    for (size_t i = 0; i < COUNT(sends); i++) {
        int ends[2];
        make_pair(kind, ends);
        set_time(ends[0], SO_SNDTIMEO, 30);
        size_t size = is_stream(kind) ? sizeof room : 1000;
        blocking_t w = { .call = sends[i].call, .fd = ends[0], .buf = room, .size = size };
        if (is_stream(kind)) {
            /* Only a part is sent; how much depends on the kernel. */
            int small = 1;
            if (setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small))
                die("SO_SNDBUF");
            w.size = sizeof room;
            long n = (blocking_start(&w), task_join(w.task), w.result);
            printf("%s: a part: %d\n", sends[i].name, n > 0 && n < (long)sizeof room);
        }
        /* The kernel makes space as long as it moves sent data to the receiver. */
        do {
            while (send(ends[0], room, size, MSG_DONTWAIT) > 0)
                continue;
            blocking_start(&w);
            task_join(w.task);
        } while (w.result > 0);
        show_result(sends[i].name, w.result, w.error, 0);
        close_pair(ends);
    }
}

static long by_connect(blocking_t *w) { return connect(w->fd, w->buf, (socklen_t)w->size); }

static void connecting(void)
{
    struct sockaddr_in address;
    struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "socket" };
    int listener = bound(SOCK_STREAM, &address), fds[4];
    if (listen(listener, 0))
        die("listen");
    set_time(listener, SO_RCVTIMEO, 30);
    blocking_t w = { .call = by_accept, .fd = listener };
    blocking_show((blocking_start(&w), &w), "accept");
    /* The queue is full after the first. */
    w = (blocking_t){ .call = by_connect, .buf = &address, .size = sizeof address };
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        set_time(fds[i], SO_SNDTIMEO, 50);
        w.fd = fds[i];
        blocking_show((blocking_start(&w), &w), "connect");
    }
    blocking_show((blocking_start(&w), &w), "connect again");
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    close(listener);

    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&path, sizeof path) || listen(listener, 0))
        die("listen");
    w.buf = &path;
    w.size = sizeof path;
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        set_time(fds[i], SO_SNDTIMEO, 50);
        w.fd = fds[i];
        blocking_show((blocking_start(&w), &w), "connect to a path");
    }
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    close(listener);
}

/* A receive waits until at least that many bytes have arrived. */
static void low_water(enum kind kind)
{
    int ends[2], mark = 6;
    make_pair(kind, ends);
    if (setsockopt(ends[1], SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark))
        die("SO_RCVLOWAT");
    blocking_t w = { .call = by_recv, .fd = ends[1], .buf = room, .size = 100 };
    blocking_start(&w);
    blocking_await(&w);
    SHOW(send(ends[0], "1234", 4, 0));
    for (int i = 0; i < 100; i++)
        task_yield();
    /* Enough bytes by themselves, because the call may have counted the first ones already. */
    SHOW(send(ends[0], "567890ab", 8, 0));
    blocking_show(&w, "low-water mark");
    close_pair(ends);
}

static int stop, turns;
static void *count(void *arg)
{
    while (!stop) {
        turns++;
        task_yield();
    }
    return arg;
}

static void probe(void)
{
    task_t other = task_spawn(count, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        printf("%s\n", kind_names[kind]);
        receive(kind);
        if (kind != UDP)
            transmit(kind);
    }
    low_water(TCP);
    connecting();
    stop = 1;
    task_join(other);
    printf("others ran: %d\n", turns > 100);
}
