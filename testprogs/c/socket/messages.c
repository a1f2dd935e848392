/* SPDX-License-Identifier: MIT */
/* messages.c - sendmsg, recvmsg, sendmmsg and recvmmsg: passed descriptors, addresses, truncation,
 * timeouts. */
#define _GNU_SOURCE
#include "blocking_task.h"

/* ---- Passed descriptors --------------------------------------------------------------------- */

static int receive_flags;

/* Receives into two small buffers, with space for two descriptors. Each received descriptor is
 * used. */
static long receive_descriptors(blocking_t *w)
{
    char bytes[8] = "";
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec part = { bytes, sizeof bytes - 1 };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    long n = recvmsg(w->fd, &message, receive_flags);
    if (n < 0)
        return n;
    blocking_note(w, "%s, control %zu, flags %d\n", bytes, message.msg_controllen,
                  message.msg_flags & ~MSG_CMSG_CLOEXEC);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        int fds[2] = { -1, -1 };
        size_t size = c->cmsg_len - CMSG_LEN(0);
        memcpy(fds, CMSG_DATA(c), size);
        for (size_t i = 0; i < size / sizeof(int); i++) {
            ssize_t wrote = write(fds[i], "!", 1);
            blocking_note(w, "type %d, close on exec %d, write %zd\n", c->cmsg_type,
                          fcntl(fds[i], F_GETFD), wrote);
            close(fds[i]);
        }
    }
    return n;
}

static long send_descriptors(int fd, const char *text, int *fds, int count, int flags)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(3 * sizeof(int))];
    } control = { .room = "" };
    struct iovec part = { (void *)(uintptr_t)text, strlen(text) };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int)) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof(int));
    return sendmsg(fd, &message, flags);
}

static void descriptors(enum kind kind)
{
    int ends[2], pipes[2], two[3];
    char bytes[16];
    make_pair(kind, ends);
    if (pipe2(pipes, O_CLOEXEC))
        die("pipe2");
    two[0] = two[1] = two[2] = pipes[1];
    for (int waits = 0; waits < 2; waits++)
        for (int cloexec = 0; cloexec < 2; cloexec++)
            for (int count = 1; count <= 3; count++) {
                receive_flags = cloexec ? MSG_CMSG_CLOEXEC : 0;
                blocking_t w = { .call = receive_descriptors, .fd = ends[1] };
                if (waits) {
                    blocking_start(&w);
                    blocking_await(&w);
                }
                SHOW(send_descriptors(ends[0], "with", two, count, 0));
                if (!waits)
                    blocking_start(&w);
                blocking_show(&w, "recvmsg");
                ssize_t n = read(pipes[0], bytes, sizeof bytes);
                printf("through the pipe: %zd\n", n);
            }
    SHOW(send_descriptors(ends[0], "bad", (int[]){ 1 << 19 }, 1, 0));
    close_pair(ends);
    close_pair(pipes);
}

/* ---- Addresses ------------------------------------------------------------------------------ */

static long receive_from(blocking_t *w)
{
    struct sockaddr_in *from = w->buf;
    char bytes[4] = "";
    socklen_t len = (socklen_t)w->size;
    long n = recvfrom(w->fd, bytes, 3, MSG_TRUNC, (struct sockaddr *)from, &len);
    if (n >= 0)
        blocking_note(w, "%s from an address of %u\n", bytes, len);
    return n;
}

static void addresses(void)
{
    struct sockaddr_in address, mine, from;
    int server = bound(SOCK_DGRAM, &address), client = bound(SOCK_DGRAM, &mine);
    for (size_t room = sizeof from;; room = 4) {
        memset(&from, 0, sizeof from);
        blocking_t w = { .call = receive_from, .fd = server, .buf = &from, .size = room };
        blocking_start(&w);
        blocking_await(&w);
        SHOW(sendto(client, "hello", 5, 0, (struct sockaddr *)&address, sizeof address));
        blocking_show(&w, "recvfrom");
        printf("it is the sender's: %d %d\n", from.sin_port == mine.sin_port,
               from.sin_addr.s_addr == mine.sin_addr.s_addr);
        if (room == 4)
            break;
    }
    SHOW(sendto(client, "hello", 5, 0, (struct sockaddr *)&address, 0));
    SHOW(sendto(client, "hello", 5, 0, (struct sockaddr *)&address, 1000));
    SHOW(sendto(client, "hello", 5, 0, NULL, 0));
    SHOW(sendto(client, "hello", 5, 0, (struct sockaddr *)1, sizeof address));
    SHOW(send(client, NULL, 5, 0));
    SHOW(sendmsg(client, NULL, 0));
    SHOW(recvmsg(client, NULL, MSG_DONTWAIT));
    char large[70000];
    memset(large, 'x', sizeof large);
    SHOW(sendto(client, large, sizeof large, 0, (struct sockaddr *)&address, sizeof address));
    /* Sends to a port where nothing listens: the next call reports the error. */
    close(server);
    SHOW(connect(client, (struct sockaddr *)&address, sizeof address));
    SHOW(send(client, "x", 1, 0));
    SHOW(recv(client, large, 1, 0));
    SHOW(send(client, "x", 1, 0));
    SHOW(send(client, "x", 1, 0));
    close(client);
}

/* A datagram socket sends by name to a full receiver; poll(2) does not report that the receiver is
 * full. */
static struct sockaddr_un receiver = { .sun_family = AF_UNIX, .sun_path = "receiver" };
static long send_by_name(blocking_t *w)
{
    return sendto(w->fd, "last", 4, 0, (struct sockaddr *)&receiver, sizeof receiver);
}

static void by_name(void)
{
    char bytes[16];
    int server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0),
        client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(server, (struct sockaddr *)&receiver, sizeof receiver))
        die("bind");
    int sent = 0;
    while (sendto(client, "fill", 4, MSG_DONTWAIT, (struct sockaddr *)&receiver, sizeof receiver) ==
           4)
        sent++;
    printf("full: %s\n", strerror(errno));
    blocking_t w = { .call = send_by_name, .fd = client };
    blocking_start(&w);
    blocking_await(&w);
    ssize_t n = 0;
    for (int i = 0; i < sent + 1; i++)
        n = recv(server, bytes, sizeof bytes, 0);
    blocking_show(&w, "sendto a full receiver");
    printf("the last: %.*s\n", (int)n, bytes);
    close(server);
    close(client);
}

/* ---- Many messages -------------------------------------------------------------------------- */

enum { MANY = 6 };
static struct timespec limit, *limited;
static unsigned vlen;

static long receive_many(blocking_t *w)
{
    char bytes[MANY][8];
    struct iovec parts[MANY];
    struct mmsghdr messages[MANY];
    memset(messages, 0, sizeof messages);
    memset(bytes, 0, sizeof bytes);
    for (int i = 0; i < MANY; i++) {
        parts[i] = (struct iovec){ bytes[i], 7 };
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n = recvmmsg(w->fd, messages, vlen, receive_flags, limited);
    for (int i = 0; i < n; i++)
        blocking_note(w, "%d: %u %s\n", i, messages[i].msg_len, bytes[i]);
    return n;
}

/* The first messages arrive before the call, the others while it waits. */
static void many(enum kind kind, int before, int after)
{
    int ends[2];
    make_pair(kind, ends);
    blocking_t w = { .call = receive_many, .fd = ends[1] };
    for (int i = 0; i < before; i++)
        SHOW(send(ends[0], "before", 6, 0));
    blocking_start(&w);
    if (after)
        blocking_await(&w);
    for (int i = 0; i < after; i++)
        SHOW(send(ends[0], "after", 5, 0));
    blocking_show(&w, "recvmmsg");
    printf("left: %d\n", (int)recv(ends[1], &(char){ 0 }, 1, MSG_DONTWAIT));
    close_pair(ends);
}

static void many_received(enum kind kind)
{
    receive_flags = 0;
    limited = NULL;
    vlen = 3;
    many(kind, 3, 0);
    many(kind, 0, 3);
    many(kind, 1, 2);
    vlen = 0;
    many(kind, 0, 0);
    vlen = MANY;
    receive_flags = MSG_WAITFORONE;
    many(kind, 2, 0);
    many(kind, 0, 1);
    receive_flags = MSG_DONTWAIT;
    many(kind, 0, 0);
    many(kind, 2, 0);
    receive_flags = 0;
    limited = &limit;
    /* The timeout is checked only when a message arrives, so the first message is always waited
     * for. */
    limit = (struct timespec){ 0, 1 };
    many(kind, 2, 0);
    printf("left of the limit: %ld.%09ld\n", (long)limit.tv_sec, limit.tv_nsec);
    limit = (struct timespec){ 0, 1 };
    many(kind, 0, 1);
    printf("left of the limit: %ld.%09ld\n", (long)limit.tv_sec, limit.tv_nsec);
    limit = (struct timespec){ 0, 0 };
    many(kind, 0, 1);
    limit = (struct timespec){ 1000, 0 };
    vlen = 2;
    many(kind, 1, 1);
    printf("left of the limit: %d\n", limit.tv_sec < 1000 && limit.tv_sec > 900);
    limit = (struct timespec){ 0, -1 };
    many(kind, 1, 0);
    limit = (struct timespec){ -1, 0 };
    many(kind, 1, 0);
    limited = NULL;
}

static long send_many(blocking_t *w)
{
    struct iovec parts[MANY];
    struct mmsghdr messages[MANY];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < MANY; i++) {
        parts[i] = (struct iovec){ w->buf, w->size };
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n = sendmmsg(w->fd, messages, MANY, 0);
    for (int i = 0; i < n; i++)
        blocking_note(w, "%d: %u\n", i, messages[i].msg_len);
    return n;
}

static void many_sent(enum kind kind)
{
    enum { SIZE = 40000 };
    int ends[2];
    char *data = allocate(SIZE), *room = allocate(SIZE);
    size_t came = 0;
    make_pair(kind, ends);
    int small = 1;
    if (setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small))
        die("SO_SNDBUF");
    blocking_t w = {
        .call = send_many, .fd = ends[0], .buf = data, .size = is_stream(kind) ? SIZE : 500
    };
    blocking_start(&w);
    while (came < MANY * w.size) {
        ssize_t n = recv(ends[1], room, SIZE, 0);
        if (n <= 0)
            die("recv");
        came += (size_t)n;
    }
    blocking_show(&w, "sendmmsg");
    close(ends[1]);
    if (kind != UDP)
        SHOW(sendmmsg(ends[0], &(struct mmsghdr){ .msg_len = 0 }, 1, MSG_NOSIGNAL));
    SHOW(sendmmsg(ends[0], NULL, 0, 0));
    close(ends[0]);
    free(data);
    free(room);
}

static void probe(void)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        printf("%s\n", kind_names[kind]);
        if (kind <= UNIX_SEQPACKET)
            descriptors(kind);
        if (!is_stream(kind))
            many_received(kind);
        many_sent(kind);
    }
    addresses();
    by_name();
}
