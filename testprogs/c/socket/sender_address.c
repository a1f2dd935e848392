/* SPDX-License-Identifier: MIT */
/* sender_address.c - recvfrom returns the sender's address for every way to receive: with MSG_PEEK,
 * with MSG_WAITALL, above a low-water mark. */
#define _GNU_SOURCE
#include "background_task.h"
#include "blocking_task.h"

static int flags, low_water;
static struct sockaddr_un sender;

static long receive(blocking_t *w)
{
    struct sockaddr_un from;
    socklen_t len = sizeof from;
    char buf[8];
    memset(&from, 0, sizeof from);
    long n =
        recvfrom(w->fd, buf, low_water ? 4 : sizeof buf, flags, (struct sockaddr *)&from, &len);
    blocking_note(w, "address: %d of %d bytes, %s\n", (int)len, (int)sizeof from,
                  len ? from.sun_path : "none");
    return n;
}

static void show(int type, int with, int mark, const char *what)
{
    for (int early = 0; early < 2; early++) {
        blocking_t w = { .call = receive };
        struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "receiver" };
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0),
            from = socket(AF_UNIX, type | SOCK_CLOEXEC, 0), listener = -1;
        flags = with;
        low_water = mark;
        if (bind(fd, (struct sockaddr *)&to, sizeof to) ||
            bind(from, (struct sockaddr *)&sender, sizeof sender))
            die("bind");
        if (type == SOCK_STREAM && (listener = fd, listen(fd, 1)))
            die("listen");
        if (connect(from, (struct sockaddr *)&to, sizeof to))
            die("connect");
        if (type == SOCK_STREAM && (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
            die("accept4");
        if (mark && setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark))
            die("setsockopt");
        w.fd = fd;
        if (early && send(from, "12345678", 8, 0) != 8)
            die("send");
        blocking_start(&w);
        if (!early)
            blocking_await(&w);
        if (!early && send(from, "12345678", 8, 0) != 8)
            die("send");
        blocking_show(&w, what);
        close(fd);
        close(from);
        if (listener >= 0)
            close(listener);
        unlink("receiver");
        unlink("sender");
    }
}

static void probe(void)
{
    sender = (struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "sender" };
    background_begin();
    show(SOCK_DGRAM, 0, 0, "datagram");
    show(SOCK_DGRAM, MSG_PEEK | MSG_WAITALL, 0, "datagram, peeked and all of it");
    show(SOCK_STREAM, 0, 0, "stream");
    show(SOCK_STREAM, MSG_PEEK | MSG_WAITALL, 0, "stream, peeked and all of it");
    show(SOCK_STREAM, 0, 4, "stream with a low-water mark");
    background_end();
}
