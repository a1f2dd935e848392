/* SPDX-License-Identifier: MIT */
/* linger.c - closing a socket with SO_LINGER waits until the peer, which is another task, has
 * received all data. */
#define _GNU_SOURCE
#include "background_task.h"
#include "blocking_task.h"

static int ends[2], null;
static volatile int reading;

static long by_close(blocking_t *w)
{
    long result = close(ends[0]);
    blocking_note(w, "after reading began: %d\n", reading);
    return result;
}
static long by_dup2(blocking_t *w)
{
    long result = dup2(null, ends[0]) == ends[0];
    blocking_note(w, "after reading began: %d\n", reading);
    close(ends[0]);
    return result;
}
static long by_dup3(blocking_t *w)
{
    long result = dup3(null, ends[0], O_CLOEXEC) == ends[0];
    blocking_note(w, "after reading began: %d\n", reading);
    close(ends[0]);
    return result;
}

/* Creates a pair of sockets; the first one has SO_LINGER. */
static void make_lingering_pair(void)
{
    struct linger linger = { 1, 10 };
    make_pair(TCP, ends);
    if (setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger))
        die("setsockopt");
}

static void lingers(long (*call)(blocking_t *), const char *what)
{
    static char much[1 << 16];
    blocking_t w = { .call = call };
    if (write(ends[0], much, 1) != 1)
        die("write");
    while (send(ends[0], much, sizeof much, MSG_DONTWAIT) > 0) {}
    reading = 0;
    blocking_start(&w);
    blocking_await(&w);
    reading = 1;
    while (read(ends[1], much, sizeof much) > 0) {}
    blocking_show(&w, what);
    close(ends[1]);
}

/* The same program after execve, with sockets that already have SO_LINGER set. */
static void start_heir(void)
{
    char sockets[32], words[4096], *arguments[16] = { NULL };
    make_lingering_pair();
    snprintf(sockets, sizeof sockets, "%d %d", ends[0], ends[1]);
    for (int i = 0; i < 2; i++)
        if (fcntl(ends[i], F_SETFD, 0))
            die("fcntl");
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, words, sizeof words);
    for (ssize_t at = 0, i = 0; at < n && i < 15; at += (ssize_t)strlen(words + at) + 1)
        arguments[i++] = words + at;
    setenv("LINGERING_SOCKETS", sockets, 1);
    fflush(stdout);
    execv("/proc/self/exe", arguments);
    die("execv");
}

static void probe(void)
{
    static const struct {
        long (*call)(blocking_t *);
        const char *what;
    } ways[] = { { by_close, "close" }, { by_dup2, "dup2" }, { by_dup3, "dup3" } };
    const char *sockets = getenv("LINGERING_SOCKETS");
    background_begin();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (sockets) {
        if (sscanf(sockets, "%d %d", &ends[0], &ends[1]) != 2)
            wrong("LINGERING_SOCKETS");
        lingers(by_close, "close, with sockets that came by execve");
    } else {
        for (int i = 0; i < 3; i++) {
            make_lingering_pair();
            lingers(ways[i].call, ways[i].what);
        }
    }
    close(null);
    background_end();
    if (!sockets)
        start_heir();
}
