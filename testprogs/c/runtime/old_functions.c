/* SPDX-License-Identifier: MIT */
/* old_functions - a library that calls functions which older versions of glibc have in separate
 * libraries. The program that loads it is not linked to these. */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void queue(void)
{
    char name[32], text[16] = "";
    struct mq_attr attributes = { .mq_maxmsg = 2, .mq_msgsize = sizeof text };
    snprintf(name, sizeof name, "/plugin.%d", (int)getpid());
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
    printf("mq_open: %s\n", queue == (mqd_t)-1 ? strerror(errno) : "a queue");
    printf("mq_send: %d\n", mq_send(queue, "text", 5, 0));
    printf("mq_receive: %zd %s\n", mq_receive(queue, text, sizeof text, NULL), text);
    printf("mq_unlink: %d\n", mq_unlink(name));
    mq_close(queue);
}

void call_them(void);
void call_them(void)
{
    unsigned char answer[512];
    /* Refused before a server is asked. */
    char long_name[2000];
    memset(long_name, 'x', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    const struct aiocb *none[1] = { NULL };
    struct timespec soon = { 0, 1000 };
    queue();
    errno = 0;
    printf("res_query: %d, %s\n", res_query(long_name, 1, 1, answer, sizeof answer),
           strerror(errno));
    printf("aio_suspend: %d\n", aio_suspend(none, 1, &soon));
}
