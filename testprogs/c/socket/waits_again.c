/* SPDX-License-Identifier: MIT */
/* waits_again.c - a number under which a task waited before means another socket in its next wait,
 * while the first socket stays open and is given the number again. A wait ends by what arrives at
 * the socket that the number meant when the wait began. */
#define _GNU_SOURCE
#include "background_task.h"
#include "blocking_task.h"

enum { ROUNDS = 8 };

static char got;

static long receive_one(blocking_t *w)
{
    return recv(w->fd, &got, 1, 0);
}

/* Waits for a byte from peer. Before it is sent, the other peer, if any, sends one that must not
 * end the wait. */
static void await_byte(int number, int peer, int other, char byte)
{
    blocking_t w = { .call = receive_one, .fd = number };
    blocking_start(&w);
    blocking_await(&w);
    if (other >= 0 && send(other, "x", 1, 0) != 1)
        die("send");
    if (send(peer, &byte, 1, 0) != 1)
        die("send");
    task_join(w.task);
    printf("%ld byte: %c\n", w.result, got);
}

static void take_other(int fd)
{
    char byte = 0;
    if (recv(fd, &byte, 1, 0) != 1 || byte != 'x')
        die("recv");
}

static void change(enum kind kind)
{
    int first[2], second[2];
    make_pair(kind, first);
    make_pair(kind, second);
    int number = dup(first[0]);
    for (int round = 0; round < ROUNDS; round++) {
        await_byte(number, first[1], -1, 'a');
        await_byte(number, first[1], -1, 'b');
        if (dup2(second[0], number) != number)
            die("dup2");
        await_byte(number, second[1], first[1], 'c');
        take_other(first[0]);
        if (dup2(first[0], number) != number)
            die("dup2");
        await_byte(number, first[1], second[1], 'd');
        take_other(second[0]);
        close(number);
        number = dup(second[0]);
        await_byte(number, second[1], first[1], 'e');
        take_other(first[0]);
        close(number);
        number = dup(first[0]);
    }
    close(number);
    for (int i = 0; i < 2; i++) {
        close(first[i]);
        close(second[i]);
    }
}

static void probe(void)
{
    background_begin();
    change(UNIX_STREAM);
    change(TCP);
    background_end();
}
