/* SPDX-License-Identifier: MIT */
/* sockets.h - the scene "sockets": an echo server returns every byte in order, then end of file. */
#ifndef FUZZ_SOCKETS_H
#define FUZZ_SOCKETS_H

#include <netinet/in.h>
#include <sys/un.h>

#include "case.h"

enum { SERVERS = 3, CLIENTS = 6, SOCKET_BYTES = 300000 };

struct sockets {
    int listener;
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_in inet;
    } address;
    socklen_t length;
    unsigned waiting; /* connections that no server has accepted yet */
};

static unsigned char stream_byte(unsigned seed, size_t at)
{
    return (unsigned char)((at * 131 + (at >> 8) * 17 + seed) & 0xff);
}

static void echo(struct actor *self, int fd)
{
    size_t room = between(self, 1, 40000);
    char *buffer = allocate(room);
    for (;;) {
        long n = chance(self, 50) ? MUST(self, fd, read(fd, buffer, room))
                                  : MUST(self, fd, recv(fd, buffer, room, 0));
        if (n <= 0)
            break;
        write_all(self, fd, buffer, (size_t)n);
    }
    free(buffer);
    close_fd(self, fd);
}

static void server(struct actor *self, void *data)
{
    struct sockets *s = data;
    for (;;) {
        unsigned left = __atomic_load_n(&s->waiting, __ATOMIC_SEQ_CST);
        do {
            if (left == 0)
                return;
        } while (!__atomic_compare_exchange_n(&s->waiting, &left, left - 1, 0, __ATOMIC_SEQ_CST,
                                              __ATOMIC_SEQ_CST));
        int fd = (int)MUST(self, s->listener, accept4(s->listener, NULL, NULL, SOCK_CLOEXEC));
        if (fd >= 0)
            echo(self, fd);
    }
}

struct conversation {
    int fd;
    unsigned seed;
    size_t bytes;
};

static void talker(struct actor *self, void *data)
{
    const struct conversation *c = data;
    unsigned char *buffer = allocate(70000);
    for (size_t done = 0; done < c->bytes;) {
        size_t size = between(self, 1, chance(self, 20) ? 70000 : 3000);
        size = size < c->bytes - done ? size : c->bytes - done;
        for (size_t i = 0; i < size; i++)
            buffer[i] = stream_byte(c->seed, done + i);
        write_all(self, c->fd, buffer, size);
        done += size;
    }
    free(buffer);
    MUST(self, c->fd, shutdown(c->fd, SHUT_WR));
}

static void client(struct actor *self, void *data)
{
    struct sockets *s = data;
    struct conversation c = { .seed = below(self, 256),
                              .bytes = between(self, 0, chance(self, 20) ? SOCKET_BYTES : 5000) };
    size_t room = between(self, 1, 50000) + 16, got = 0;
    unsigned char *buffer = allocate(room);
    c.fd = (int)MUST(self, -1, socket(s->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    /* An interrupted connect continues in the kernel; calling it again would fail. */
    if (CALL(self, c.fd, connect(c.fd, &s->address.any, s->length)) == -1) {
        struct pollfd writable = { .fd = c.fd, .events = POLLOUT };
        REQUIRE(self, errno == EINTR && fuzz.interrupts, "connect: %s", strerror(errno));
        while (CALL(self, c.fd, poll(&writable, 1, -1)) == -1 && errno == EINTR)
            ;
    }
    struct actor *other = start(self, talker, &c);
    for (;;) {
        long n = MUST(self, c.fd, read(c.fd, buffer, room));
        if (n <= 0)
            break;
        for (long i = 0; i < n; i++)
            if (buffer[i] != stream_byte(c.seed, got + (size_t)i)) {
                violation(self, "byte %zu of the echo is wrong", got + (size_t)i);
                break;
            }
        got += (size_t)n;
    }
    finish(self, other);
    REQUIRE(self, got == c.bytes, "of %zu bytes %zu came back", c.bytes, got);
    free(buffer);
    close_fd(self, c.fd);
}

static void sockets_scene(struct actor *self, void *unused)
{
    (void)unused;
    struct sockets *s = allocate(sizeof *s);
    struct actor *actors[SERVERS + CLIENTS];
    unsigned count = 0, clients = between(self, 1, CLIENTS);
    /* An interrupted connect of a Unix socket would have to be repeated, so cases with interrupting
     * handlers use TCP. */
    if (chance(self, 50) && !fuzz.interrupts) {
        s->address.local.sun_family = AF_UNIX;
        snprintf(s->address.local.sun_path, sizeof s->address.local.sun_path, "socket.%u",
                 self->index);
        s->length = sizeof s->address.local;
    } else {
        s->address.inet =
            (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        s->length = sizeof s->address.inet;
    }
    s->listener =
        (int)MUST(self, -1, socket(s->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(self, s->listener, bind(s->listener, &s->address.any, s->length));
    MUST(self, s->listener, listen(s->listener, CLIENTS));
    MUST(self, s->listener, getsockname(s->listener, &s->address.any, &s->length));
    s->waiting = clients;
    for (unsigned i = between(self, 1, SERVERS); i > 0; i--)
        actors[count++] = start(self, server, s);
    for (unsigned i = 0; i < clients; i++)
        actors[count++] = start(self, client, s);
    for (unsigned i = 0; i < count; i++)
        finish(self, actors[i]);
    close_fd(self, s->listener);
    if (s->address.any.sa_family == AF_UNIX)
        MUST(self, -1, unlink(s->address.local.sun_path));
    free(s);
}

#endif
