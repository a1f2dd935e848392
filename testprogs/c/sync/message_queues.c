/* SPDX-License-Identifier: MIT */
/* message_queues.c - message queues and semaphore sets: a task waits in each call until another
 * task of the same worker ends the wait; also checks the errors, limits and timeouts of each call.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <aio.h>
#include <mqueue.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <time.h>

struct message {
    long kind;
    char text[64];
};

static int queue, set, event;
static mqd_t posix;

/* The results of the other task, shown when it has ended. */
static char seen[4][128];

static void show_seen(int n)
{
    for (int i = 0; i < n; i++)
        puts(seen[i]);
}

static void *receive(void *arg)
{
    struct message message;
    for (int i = 0; i < 3; i++) {
        ssize_t n = msgrcv(queue, &message, sizeof message.text, 2, 0);
        snprintf(seen[i], sizeof seen[i], "msgrcv: %zd %.*s", n, (int)(n > 0 ? n : 0),
                 message.text);
    }
    return arg;
}

static void system_v(void)
{
    queue = SHOW_FD(msgget(IPC_PRIVATE, 0600));
    task_t receiver = task_spawn(receive, NULL);
    for (int i = 0; i < 3; i++) {
        struct message message = { .kind = 2 };
        int n = snprintf(message.text, sizeof message.text, "message %d", i);
        task_yield();
        SHOW(msgsnd(queue, &message, (size_t)n, 0));
    }
    task_join(receiver);
    show_seen(3);
    struct message message = { .kind = 1, .text = "longer than there is room" };
    SHOW(msgsnd(queue, &message, 25, 0));
    SHOW(msgrcv(queue, &message, 4, 0, 0));
    SHOW(msgrcv(queue, &message, 4, 0, MSG_NOERROR));
    SHOW(msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT));
    SHOW(msgsnd(queue, &(struct message){ .kind = 0 }, 1, 0));
    SHOW(msgsnd(queue, (void *)1, 1, 0));
    SHOW(msgrcv(-1, &message, 1, 0, 0));
}

static void *remove_queue(void *arg)
{
    task_yield();
    if (msgctl(queue, IPC_RMID, NULL))
        die("msgctl");
    return arg;
}

static void removed(void)
{
    struct message message;
    task_t remover = task_spawn(remove_queue, NULL);
    errno = 0;
    ssize_t n = msgrcv(queue, &message, sizeof message.text, 0, 0);
    /* Before or during the call. */
    printf("msgrcv of a removed queue: %zd %s\n", n,
           errno == EIDRM || errno == EINVAL ? "EIDRM or EINVAL" : strerror(errno));
    task_join(remover);
}

static void *take(void *arg)
{
    struct sembuf down = { 0, -2, 0 };
    check(semop(set, &down, 1), "semop");
    return arg;
}

static void semaphores(void)
{
    set = SHOW_FD(semget(IPC_PRIVATE, 1, 0600));
    task_t taker = task_spawn(take, NULL);
    struct sembuf up = { 0, 1, 0 };
    check(semop(set, &up, 1), "semop");
    task_yield();
    check(semop(set, &up, 1), "semop");
    task_join(taker);
    struct sembuf down = { 0, -1, 0 }, now = { 0, -1, IPC_NOWAIT };
    struct timespec limit = { 0, 1000000 }, bad = { 0, -1 };
    SHOW(semtimedop(set, &down, 1, &limit));
    SHOW(semtimedop(set, &down, 1, &bad));
    SHOW(semop(set, &now, 1));
    SHOW(semop(set, &down, 0));
    SHOW(semop(-1, &down, 1));
    SHOW(semop(set, (void *)1, 1));
    SHOW(semctl(set, 0, IPC_RMID));
}

static void *receive_posix(void *arg)
{
    char text[64];
    unsigned priority = 0;
    for (int i = 0; i < 3; i++) {
        ssize_t n = mq_receive(posix, text, sizeof text, &priority);
        snprintf(seen[i], sizeof seen[i], "mq_receive: %zd %.*s, priority %u", n,
                 (int)(n > 0 ? n : 0), text, priority);
    }
    return arg;
}

static void *fill(void *arg)
{
    for (int i = 0; i < 3; i++)
        check(mq_send(posix, "filler", 6, 0), "mq_send");
    return arg;
}

static void posix_queue(void)
{
    char name[64], text[64];
    snprintf(name, sizeof name, "/aioshim-probe-%ld", (long)getpid());
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = sizeof text };
    SHOW(mq_open("no slash", O_RDWR));
    posix = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    if (posix < 0)
        die("mq_open");
    SHOW(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes));
    task_t receiver = task_spawn(receive_posix, NULL);
    for (int i = 0; i < 3; i++) {
        int n = snprintf(text, sizeof text, "message %d", i);
        task_yield();
        check(mq_send(posix, text, (size_t)n, (unsigned)i), "mq_send");
    }
    task_join(receiver);
    show_seen(3);
    struct timespec past = { 1, 0 }, bad = { 1, -1 }, soon;
    SHOW(mq_timedreceive(posix, text, sizeof text, NULL, &past));
    SHOW(mq_timedreceive(posix, text, sizeof text, NULL, &bad));
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 2000000;
    soon.tv_sec += soon.tv_nsec / 1000000000;
    soon.tv_nsec %= 1000000000;
    SHOW(mq_timedreceive(posix, text, sizeof text, NULL, &soon));
    SHOW(mq_receive(posix, text, 1, NULL));
    task_t filler = task_spawn(fill, NULL);
    for (int i = 0; i < 3; i++)
        SHOW(mq_receive(posix, text, sizeof text, NULL));
    task_join(filler);
    SHOW(mq_send(posix, text, 1, 0));
    SHOW(mq_timedsend(posix, text, 1, 0, &past));
    SHOW(mq_send(posix, text, 1000, 0));
    SHOW(mq_receive(posix, text, sizeof text, NULL));
    SHOW(mq_receive(-1, text, sizeof text, NULL));
    SHOW(mq_setattr(posix, &(struct mq_attr){ .mq_flags = O_NONBLOCK }, NULL));
    SHOW(mq_receive(posix, text, sizeof text, NULL));
    SHOW(mq_close(posix));
    SHOW(mq_unlink(name));
    SHOW(mq_unlink(name));
}

static void *count(void *arg)
{
    eventfd_t value = 0;
    for (int i = 0; i < 2; i++) {
        int result = eventfd_read(event, &value);
        snprintf(seen[i], sizeof seen[i], "eventfd_read: %d, %llu", result,
                 (unsigned long long)value);
    }
    return arg;
}

static void events(void)
{
    event = SHOW_FD(eventfd(0, EFD_SEMAPHORE));
    task_t counter = task_spawn(count, NULL);
    task_yield();
    SHOW(eventfd_write(event, 2));
    task_join(counter);
    show_seen(2);
    SHOW(eventfd_write(event, UINT64_MAX));
    SHOW(close(event));
    SHOW(eventfd_write(event, 1));
    eventfd_t value;
    SHOW(eventfd_read(event, &value));
}

static void asynchronous(void)
{
    make_file("file", 8192);
    int fd = open("file", O_RDONLY);
    char data[4096];
    struct aiocb block = { .aio_fildes = fd, .aio_buf = data, .aio_nbytes = sizeof data };
    SHOW(aio_read(&block));
    const struct aiocb *list[] = { &block };
    while (aio_suspend(list, 1, NULL))
        if (errno != EINTR)
            die("aio_suspend");
    SHOW(aio_error(&block));
    SHOW(aio_return(&block));
    show_data("data", data, sizeof data);
    struct aiocb *both[] = { &block };
    block.aio_lio_opcode = LIO_READ;
    SHOW(lio_listio(LIO_WAIT, both, 1, NULL));
    SHOW(aio_return(&block));
    SHOW(close(fd));
}

static void probe(void)
{
    system_v();
    removed();
    semaphores();
    posix_queue();
    events();
    asynchronous();
}
