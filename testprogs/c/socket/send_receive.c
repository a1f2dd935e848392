/* SPDX-License-Identifier: MIT */
/* send_receive.c - every receiving call waits for every sending call, on every kind of socket. */
#define _GNU_SOURCE
#include "blocking_task.h"

enum { LARGE = 3 << 20, ROOM = 4096 };

/* ---- Every receiving and every sending call ------------------------------------------------- */

static long by_recv(blocking_t *w) { return recv(w->fd, w->buf, w->size, 0); }
static long by_recvfrom(blocking_t *w)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    memset(&from, 0, sizeof from);
    long n = recvfrom(w->fd, w->buf, w->size, 0, (struct sockaddr *)&from, &len);
    if (n >= 0)
        blocking_note(w, "from: family %d, %u bytes\n", from.ss_family, len);
    return n;
}
static long by_recvfrom_nowhere(blocking_t *w)
{
    return recvfrom(w->fd, w->buf, w->size, 0, NULL, NULL);
}
static long by_recvmsg(blocking_t *w)
{
    struct sockaddr_storage from;
    struct iovec parts[] = { { w->buf, 2 }, { (char *)w->buf + 2, w->size - 2 } };
    struct msghdr message = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = parts, .msg_iovlen = 2
    };
    long n = recvmsg(w->fd, &message, 0);
    if (n >= 0)
        blocking_note(w, "message: name %u, control %zu, flags %x\n", message.msg_namelen,
                      message.msg_controllen, message.msg_flags);
    return n;
}
static long by_recvmmsg(blocking_t *w)
{
    struct iovec part = { w->buf, w->size };
    struct mmsghdr messages[1] = { { .msg_hdr = { .msg_iov = &part, .msg_iovlen = 1 } } };
    int n = recvmmsg(w->fd, messages, 1, 0, NULL);
    return n < 0 ? n : n * 1000000L + messages[0].msg_len;
}
static long by_read(blocking_t *w) { return read(w->fd, w->buf, w->size); }
static long by_readv(blocking_t *w)
{
    struct iovec parts[] = { { w->buf, 2 }, { (char *)w->buf + 2, w->size - 2 } };
    return readv(w->fd, parts, 2);
}

static long by_send(blocking_t *w) { return send(w->fd, w->buf, w->size, 0); }
static long by_sendto(blocking_t *w) { return sendto(w->fd, w->buf, w->size, 0, NULL, 0); }
static long by_sendmsg(blocking_t *w)
{
    struct iovec parts[] = { { w->buf, w->size / 2 },
                             { (char *)w->buf + w->size / 2, w->size - w->size / 2 } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    return sendmsg(w->fd, &message, 0);
}
static long by_sendmmsg(blocking_t *w)
{
    struct iovec parts[] = { { w->buf, w->size / 2 },
                             { (char *)w->buf + w->size / 2, w->size - w->size / 2 } };
    struct mmsghdr messages[2] = { { .msg_hdr = { .msg_iov = &parts[0], .msg_iovlen = 1 } },
                                   { .msg_hdr = { .msg_iov = &parts[1], .msg_iovlen = 1 } } };
    int n = sendmmsg(w->fd, messages, 2, 0);
    return n < 0 ? n : n * 100000000L + messages[0].msg_len + messages[1].msg_len;
}
static long by_write(blocking_t *w) { return write(w->fd, w->buf, w->size); }
static long by_writev(blocking_t *w)
{
    struct iovec parts[] = { { w->buf, w->size / 2 },
                             { (char *)w->buf + w->size / 2, w->size - w->size / 2 } };
    return writev(w->fd, parts, 2);
}

static const struct {
    const char *name;
    long (*call)(blocking_t *);
} receives[] = {
    { "recv", by_recv },         { "recvfrom", by_recvfrom },
    { "recvfrom nowhere", by_recvfrom_nowhere },
    { "recvmsg", by_recvmsg },   { "recvmmsg", by_recvmmsg }, { "read", by_read },
    { "readv", by_readv },
}, sends[] = {
    { "send", by_send },   { "sendto", by_sendto },
    { "sendmsg", by_sendmsg }, { "sendmmsg", by_sendmmsg },
    { "write", by_write }, { "writev", by_writev },
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- Receiving ------------------------------------------------------------------------------ */

static void receive(enum kind kind, int ends[2])
{
    for (size_t i = 0; i < COUNT(receives); i++) {
        char room[ROOM] = "";
        blocking_t w = {
            .call = receives[i].call, .fd = ends[1], .buf = room, .size = sizeof room
        };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(send(ends[0], "hello", 5, 0));
        blocking_show(&w, receives[i].name);
        printf("%s\n", room);
    }
    if (!is_stream(kind)) {
        /* An empty message also counts. */
        for (size_t i = 0; i < COUNT(receives); i++) {
            char room[ROOM] = "";
            blocking_t w = { .call = receives[i].call, .fd = ends[1], .buf = room, .size = 3 };
            blocking_start(&w);
            blocking_await(&w);
            SHOW(send(ends[0], "", 0, 0));
            blocking_show(&w, receives[i].name);
            blocking_start(&w);
            blocking_await(&w);
            SHOW(send(ends[0], "hello", 5, 0));
            blocking_show(&w, receives[i].name);
            printf("%s\n", room);
        }
    }
}

/* ---- Flags ---------------------------------------------------------------------------------- */

static int flags;
static long with_flags(blocking_t *w) { return recv(w->fd, w->buf, w->size, flags); }

static void flagged(enum kind kind, int ends[2])
{
    char room[ROOM] = "";
    blocking_t w = { .call = with_flags, .fd = ends[1], .buf = room, .size = 4 };
    SHOW(recv(ends[1], room, 4, MSG_DONTWAIT));
    /* Unix sockets have no error queue, and UDP has no out-of-band data; they ignore the flag and
     * would wait. */
    if (kind >= TCP)
        SHOW(recv(ends[1], room, 4, MSG_ERRQUEUE));
    if (kind != UDP)
        SHOW(recv(ends[1], room, 4, MSG_OOB));
    flags = MSG_PEEK;
    blocking_start(&w);
    blocking_await(&w);
    SHOW(send(ends[0], "peeked", 6, 0));
    blocking_show(&w, "peek");
    SHOW(recv(ends[1], room, sizeof room, MSG_PEEK | MSG_TRUNC));
    flags = MSG_TRUNC;
    blocking_show((blocking_start(&w), &w), "trunc");
    SHOW(recv(ends[1], room, sizeof room, MSG_DONTWAIT));
    /* Only a part of the requested data arrives at first. */
    flags = MSG_WAITALL;
    memset(room, 0, sizeof room);
    w.size = 9;
    blocking_start(&w);
    blocking_await(&w);
    SHOW(send(ends[0], "abc", 3, 0));
    if (is_stream(kind)) {
        int left;
        do {
            task_yield();
            left = (int)recv(ends[1], &left, 1, MSG_PEEK | MSG_DONTWAIT);
        } while (left > 0);
        SHOW(send(ends[0], "def", 3, 0));
        SHOW(send(ends[0], "ghijkl", 6, 0));
    }
    blocking_show(&w, "waitall");
    printf("%s\n", room);
    SHOW(recv(ends[1], room, sizeof room, MSG_DONTWAIT));
    if (is_stream(kind)) {
        /* The end arrives before all of the data. */
        flags = MSG_WAITALL;
        blocking_start(&w);
        blocking_await(&w);
        SHOW(send(ends[0], "abc", 3, 0));
        SHOW(shutdown(ends[0], SHUT_WR));
        blocking_show(&w, "waitall, cut short");
        flags = MSG_WAITALL | MSG_PEEK;
        blocking_show((blocking_start(&w), &w), "peek for all");
    }
}

/* ---- Sending -------------------------------------------------------------------------------- */

/* Sends until the socket is full. Returns the number of bytes sent, and stores the number of
 * messages. */
static size_t fill(int fd, size_t size, int *messages)
{
    static char data[1 << 16];
    size_t sum = 0;
    *messages = 0;
    for (;;) {
        ssize_t n = send(fd, data, size, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return sum;
        if (n < 0)
            die("send");
        sum += (size_t)n;
        ++*messages;
    }
}

static void send_each(enum kind kind)
{
    for (size_t i = 0; i < COUNT(sends); i++) {
        static char data[200], room[1 << 16];
        int ends[2], messages;
        make_pair(kind, ends);
        blocking_t w = { .call = sends[i].call, .fd = ends[0], .buf = data, .size = sizeof data };
        pattern(data, sizeof data, 3);
        size_t sum = fill(ends[0], is_stream(kind) ? 1 << 16 : 1000, &messages);
        blocking_start(&w);
        task_sem_wait(&w.about_to);
        /* Two messages if the socket keeps message boundaries and the call takes several parts. */
        size_t left = sum + sizeof data;
        uint64_t end = HASH_START;
        while (left > 0) {
            ssize_t n = recv(ends[1], room, left < sizeof room ? left : sizeof room, 0);
            if (n <= 0)
                die("recv");
            for (ssize_t at = 0; at < n; at++, left--)
                if (left <= sizeof data)
                    end = hash(end, room + at, 1);
        }
        blocking_show(&w, sends[i].name);
        printf("what came: %016" PRIx64 "\n", end);
        close_pair(ends);
    }
}

static size_t came;
static uint64_t drained;
static void *drain(void *arg)
{
    static char room[ROOM * 5];
    uint64_t sum = HASH_START;
    ssize_t n;
    came = 0;
    while ((n = recv(*(int *)arg, room, sizeof room, 0)) > 0) {
        sum = hash(sum, room, (size_t)n);
        came += (size_t)n;
    }
    drained = sum;
    return NULL;
}

/* A send on a stream returns only when all of the data has been sent. */
static void send_large(enum kind kind)
{
    char *data = allocate(LARGE);
    pattern(data, LARGE, 5);
    for (size_t i = 0; i < COUNT(sends); i++) {
        int ends[2];
        make_pair(kind, ends);
        blocking_t w = { .call = sends[i].call, .fd = ends[0], .buf = data, .size = LARGE };
        blocking_start(&w);
        task_t drainer = task_spawn(drain, &ends[1]);
        blocking_show(&w, sends[i].name);
        if (shutdown(ends[0], SHUT_WR))
            die("shutdown");
        task_join(drainer);
        printf("came: %zu %016" PRIx64 "\n", came, drained);
        close_pair(ends);
    }
    free(data);
}

static void probe(void)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        int ends[2];
        printf("%s\n", kind_names[kind]);
        make_pair(kind, ends);
        receive(kind, ends);
        flagged(kind, ends);
        close_pair(ends);
        if (kind != UDP)
            send_each(kind);
        if (is_stream(kind))
            send_large(kind);
    }
}
