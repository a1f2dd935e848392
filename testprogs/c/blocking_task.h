/* SPDX-License-Identifier: MIT */
/* blocking_task.h - a task that makes one call that waits, and a way for another task to know that
 * it is in the call; socket pairs of all kinds. */
#ifndef BLOCKING_TASK_H
#define BLOCKING_TASK_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "probe.h"

/* ---- Waiting -------------------------------------------------------------------------------- */

typedef struct blocking {
    long (*call)(struct blocking *);
    int fd;
    void *buf;
    size_t size;
    long result;
    int error;
    char note[512]; /* additional output of the call */
    pid_t id;
    task_sem_t about_to;
    task_t task;
} blocking_t;

static inline void *blocking_run(void *arg)
{
    blocking_t *w = arg;
    w->id = (pid_t)syscall(SYS_gettid);
    task_sem_post(&w->about_to);
    errno = ERRNO_UNTOUCHED;
    w->result = w->call(w);
    w->error = errno;
    return NULL;
}

/* Appends to the output that is shown when the waiter has ended. Keeps errno. */
__attribute__((format(printf, 2, 3))) static inline void blocking_note(blocking_t *w,
                                                                       const char *format, ...)
{
    int error = errno;
    size_t used = strlen(w->note);
    va_list args;
    va_start(args, format);
    vsnprintf(w->note + used, sizeof w->note - used, format, args);
    va_end(args);
    errno = error;
}

/* Starts the waiter. */
static inline void blocking_start(blocking_t *w)
{
    w->note[0] = '\0';
    task_sem_init(&w->about_to, 0);
    w->task = task_spawn(blocking_run, w);
}

/* Returns when the waiter is in its call. */
static inline void blocking_await(blocking_t *w) { await_call(&w->about_to, &w->id); }

/* Waits for the waiter to end and shows the result of its call. */
static inline long blocking_show(blocking_t *w, const char *what)
{
    task_join(w->task);
    fputs(w->note, stdout);
    return show_result(what, w->result, w->error, 0);
}

/* ---- Sockets -------------------------------------------------------------------------------- */

enum kind { UNIX_STREAM, UNIX_DGRAM, UNIX_SEQPACKET, TCP, UDP, KINDS };
static const char *const kind_names[] = { "unix stream", "unix dgram", "unix seqpacket", "tcp",
                                          "udp" };

static inline int is_stream(enum kind kind) { return kind == UNIX_STREAM || kind == TCP; }

static inline struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = (in_port_t)port };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Creates a socket that is bound to a free port of the loopback interface, and stores the port in
 * the address. */
static inline int bound(int type, struct sockaddr_in *address)
{
    socklen_t len = sizeof *address;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    *address = loopback(0);
    if (fd < 0 || bind(fd, (struct sockaddr *)address, len) ||
        getsockname(fd, (struct sockaddr *)address, &len))
        die("a socket on 127.0.0.1");
    return fd;
}

static inline void make_pair(enum kind kind, int ends[2])
{
    static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
    struct sockaddr_in address, other;
    if (kind <= UNIX_SEQPACKET) {
        if (socketpair(AF_UNIX, types[kind] | SOCK_CLOEXEC, 0, ends))
            die("socketpair");
    } else if (kind == TCP) {
        int listener = bound(SOCK_STREAM, &address);
        ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listen(listener, 1) || connect(ends[0], (struct sockaddr *)&address, sizeof address))
            die("connect");
        ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (ends[1] < 0)
            die("accept4");
        close(listener);
    } else {
        ends[0] = bound(SOCK_DGRAM, &address);
        ends[1] = bound(SOCK_DGRAM, &other);
        if (connect(ends[0], (struct sockaddr *)&other, sizeof other) ||
            connect(ends[1], (struct sockaddr *)&address, sizeof address))
            die("connect");
    }
}

static inline void close_pair(int ends[2])
{
    if (close(ends[0]) | close(ends[1]))
        die("close");
}

#endif
