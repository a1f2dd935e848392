/* SPDX-License-Identifier: MIT */
/* sockets.h - cases that wait for a peer: there is nothing to receive, no space to send, no
 * connection to accept. */

#include <netinet/in.h>
#include <sys/un.h>

static void make_pair(void)
{
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
}

static void make_full_pair(void)
{
    make_pair();
    fill(ends[1]);
}

static void recv_call(unsigned i)
{
    char byte;
    (void)i;
    must(CALL(ssize_t(*)(int, void *, size_t, int), recv, ends[0], &byte, 1, 0) == 1, "recv");
}

static void recv_chk_call(unsigned i)
{
    char byte;
    (void)i;
    must(((ssize_t(*)(int, void *, size_t, size_t, int))named)(ends[0], &byte, 1, 1, 0) == 1,
         "recv_chk");
}

static void recvfrom_call(unsigned i)
{
    char byte;
    (void)i;
    must(CALL(ssize_t(*)(int, void *, size_t, int, struct sockaddr *, socklen_t *), recvfrom,
              ends[0], &byte, 1, 0, NULL, NULL) == 1,
         "recvfrom");
}

static void recvfrom_chk_call(unsigned i)
{
    char byte;
    (void)i;
    must(((ssize_t(*)(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))named)(
             ends[0], &byte, 1, 1, 0, NULL, NULL) == 1,
         "recvfrom_chk");
}

static void recvmsg_call(unsigned i)
{
    char byte;
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    (void)i;
    must(CALL(ssize_t(*)(int, struct msghdr *, int), recvmsg, ends[0], &message, 0) == 1,
         "recvmsg");
}

static void recvmmsg_call(unsigned i)
{
    char byte;
    struct iovec part = { &byte, 1 };
    struct mmsghdr message = { { .msg_iov = &part, .msg_iovlen = 1 }, 0 };
    (void)i;
    must(CALL(int (*)(int, struct mmsghdr *, unsigned, int, struct timespec *), recvmmsg, ends[0],
              &message, 1, 0, NULL) == 1,
         "recvmmsg");
}

static char much[65536];

static void send_call(unsigned i)
{
    (void)i;
    must(CALL(ssize_t(*)(int, const void *, size_t, int), send, ends[1], much, sizeof much, 0) ==
             sizeof much,
         "send");
}

static void sendto_call(unsigned i)
{
    (void)i;
    must(CALL(ssize_t(*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t),
              sendto, ends[1], much, sizeof much, 0, NULL, 0) == sizeof much,
         "sendto");
}

static void sendmsg_call(unsigned i)
{
    struct iovec part = { much, sizeof much };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    (void)i;
    must(CALL(ssize_t(*)(int, const struct msghdr *, int), sendmsg, ends[1], &message, 0) ==
             sizeof much,
         "sendmsg");
}

static void sendmmsg_call(unsigned i)
{
    struct iovec part = { much, sizeof much };
    struct mmsghdr message = { { .msg_iov = &part, .msg_iovlen = 1 }, 0 };
    (void)i;
    must(CALL(int (*)(int, struct mmsghdr *, unsigned, int), sendmmsg, ends[1], &message, 1, 0) ==
             1,
         "sendmmsg");
}

/* ---- Connections ---------------------------------------------------------------------------- */

static int listener;
static struct sockaddr_un socket_name = { .sun_family = AF_UNIX, .sun_path = "socket" };

static int stream(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0, "socket");
    return fd;
}

static void listen_with(int backlog)
{
    listener = stream();
    must(bind(listener, (struct sockaddr *)&socket_name, sizeof socket_name) == 0 &&
             listen(listener, backlog) == 0,
         "listen");
}

static void begin_listening(void) { listen_with(TASKS); }

/* Makes a connection that is accepted. */
static void come(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(fd >= 0, "socket");
    /* EAGAIN: the queue is full, so the next call tries again. */
    if (connect(fd, (struct sockaddr *)&socket_name, sizeof socket_name) && errno != EAGAIN)
        die("connect");
    close(fd);
}

static void accept_call(unsigned i)
{
    (void)i;
    opened(CALL(int (*)(int, struct sockaddr *, socklen_t *), accept, listener, NULL, NULL));
}

static void accept4_call(unsigned i)
{
    (void)i;
    opened(CALL(int (*)(int, struct sockaddr *, socklen_t *, int), accept4, listener, NULL, NULL,
                SOCK_CLOEXEC));
}

static void listen_without_room(void)
{
    listen_with(0);
    come();
}

static void accept_one(void)
{
    int flags = fcntl(listener, F_GETFL);
    fcntl(listener, F_SETFL, flags | O_NONBLOCK);
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0)
        close(fd);
    fcntl(listener, F_SETFL, flags);
}

static void connect_call(unsigned i)
{
    int fd = stream();
    (void)i;
    must(CALL(int (*)(int, const struct sockaddr *, socklen_t), connect, fd,
              (struct sockaddr *)&socket_name, sizeof socket_name) == 0,
         "connect");
    close(fd);
}

static void drain_pair(void) { drain(ends[0]); }

static const struct blocking sockets[] = {
    { "recv __recv", make_pair, recv_call, feed_pipe, 0, { 0 }, 0 },
    { "__recv_chk", make_pair, recv_chk_call, feed_pipe, 0, { 0 }, 0 },
    { "recvfrom", make_pair, recvfrom_call, feed_pipe, 0, { 0 }, 0 },
    { "__recvfrom_chk", make_pair, recvfrom_chk_call, feed_pipe, 0, { 0 }, 0 },
    { "recvmsg", make_pair, recvmsg_call, feed_pipe, 0, { 0 }, 0 },
    { "recvmmsg", make_pair, recvmmsg_call, feed_pipe, 0, { 0 }, 0 },
    { "send __send", make_full_pair, send_call, drain_pair, 0, { 0 }, 0 },
    { "sendto", make_full_pair, sendto_call, drain_pair, 0, { 0 }, 0 },
    { "sendmsg", make_full_pair, sendmsg_call, drain_pair, 0, { 0 }, 0 },
    { "sendmmsg __sendmmsg", make_full_pair, sendmmsg_call, drain_pair, 0, { 0 }, 0 },
    { "accept", begin_listening, accept_call, come, 0, { 0 }, 0 },
    { "accept4", begin_listening, accept4_call, come, 0, { 0 }, 0 },
    { "connect __connect", listen_without_room, connect_call, accept_one, 0, { 0 }, 0 },
};
