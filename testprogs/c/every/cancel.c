/* SPDX-License-Identifier: MIT */
/* cancel.c - tasks are cancelled in calls that wait: the call ends without effect, no byte is
 * lost, and cleanup handlers run. With --threads, pthread_cancel must do the same. */
#define _GNU_SOURCE
#include "probe.h"

#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static int ends[2], sockets[2], queue;
static mqd_t messages;
static sem_t semaphore;
static _Atomic int waiting, one_is_free;
static char trail[256];

static void note(void *what) { strcat(trail, what); }

static void show_trail(const char *name, void *result, void *cancelled)
{
    printf("%s: %s, %s\n", name, result == cancelled ? "cancelled" : "ended", trail);
    trail[0] = 0;
}

static void body(int (*call)(void))
{
    /* If there is data for the first call, the call completes before the cancellation. */
    if (!one_is_free)
        waiting = 1;
    int result = call();
    waiting = 1;
    snprintf(trail + strlen(trail), 32, "returned %d ", result);
    result = call();
    snprintf(trail + strlen(trail), 32, "and %d ", result);
}

static void *on_fiber(void *call)
{
    fiber_cleanup_push(note, "cleanup");
    body((int (*)(void))call);
    fiber_cleanup_pop(0);
    return NULL;
}

static void *on_thread(void *call)
{
    pthread_cleanup_push(note, "cleanup");
    body((int (*)(void))call);
    pthread_cleanup_pop(0);
    return NULL;
}

static int reads(void)
{
    char buf[4];
    return (int)read(ends[0], buf, sizeof buf);
}

static int reads_vector(void)
{
    char buf[4];
    struct iovec part = { buf, sizeof buf };
    return (int)readv(ends[0], &part, 1);
}

static int sleeps(void)
{
    struct timespec long_time = { 3600, 0 };
    return nanosleep(&long_time, NULL);
}

static int receives(void)
{
    char buf[4];
    return (int)recv(sockets[0], buf, sizeof buf, 0);
}

static int receives_from(void)
{
    char buf[4];
    return (int)recvfrom(sockets[0], buf, sizeof buf, 0, NULL, NULL);
}

static int receives_message(void)
{
    char buf[4];
    struct iovec part = { buf, sizeof buf };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    return (int)recvmsg(sockets[0], &message, 0);
}

static int receives_messages(void)
{
    char buf[4];
    struct iovec part = { buf, sizeof buf };
    struct mmsghdr message = { .msg_hdr = { .msg_iov = &part, .msg_iovlen = 1 } };
    return recvmmsg(sockets[0], &message, 1, 0, NULL);
}

static int polls(void)
{
    struct pollfd polled = { .fd = ends[0], .events = POLLIN };
    return poll(&polled, 1, -1);
}

static int selects(void)
{
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
    return select(ends[0] + 1, &readable, NULL, NULL, NULL);
}

static int waits_for_events(void)
{
    struct epoll_event event = { .events = EPOLLIN };
    static int epoll = -1;
    if (epoll < 0 && ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
                      epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event)))
        die("epoll");
    return epoll_wait(epoll, &event, 1, -1);
}

static int takes_message(void)
{
    struct {
        long type;
        char text[8];
    } message;
    return (int)msgrcv(queue, &message, sizeof message.text, 0, 0);
}

static int takes_posix_message(void)
{
    char text[16];
    return (int)mq_receive(messages, text, sizeof text, NULL);
}

static int waits_for_semaphore(void) { return sem_wait(&semaphore); }

static int waits_for_signal(void)
{
    sigset_t user;
    sigemptyset(&user);
    sigaddset(&user, SIGUSR1);
    return sigwaitinfo(&user, NULL);
}

static int waits_for_child(void) { return waitpid(-1, NULL, 0); }

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void unlock(void *arg) { note(pthread_mutex_unlock(arg) ? "not locked " : "unlocked "); }

static int waits_on_fiber(const struct timespec *until)
{
    int result;
    fiber_cleanup_push(unlock, &mutex);
    result = until ? pthread_cond_timedwait(&condition, &mutex, until)
                   : pthread_cond_wait(&condition, &mutex);
    fiber_cleanup_pop(1);
    return result;
}

static int waits_on_thread(const struct timespec *until)
{
    int result;
    pthread_cleanup_push(unlock, &mutex);
    result = until ? pthread_cond_timedwait(&condition, &mutex, until)
                   : pthread_cond_wait(&condition, &mutex);
    pthread_cleanup_pop(1);
    return result;
}

/* The mutex is locked when the cleanup handler runs. */
static int waits_until(const struct timespec *until)
{
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    return task_options.threads ? waits_on_thread(until) : waits_on_fiber(until);
}

static int waits_for_condition(void) { return waits_until(NULL); }

static int waits_for_condition_for_a_time(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 3600;
    return waits_until(&until);
}

static int waits_for_lock(void)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int holder = open("locked", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int file = open("locked", O_RDWR | O_CLOEXEC);
    if (holder < 0 || file < 0 || fcntl(holder, F_OFD_SETLK, &whole))
        die("locked");
    return fcntl(file, F_OFD_SETLKW, &whole);
}

static const struct {
    const char *name;
    int (*call)(void);
} others[] = {
    { "recv", receives },
    { "recvfrom", receives_from },
    { "recvmsg", receives_message },
    { "recvmmsg", receives_messages },
    { "poll", polls },
    { "select", selects },
    { "epoll_wait", waits_for_events },
    { "msgrcv", takes_message },
    { "mq_receive", takes_posix_message },
    { "sem_wait", waits_for_semaphore },
    { "sigwaitinfo", waits_for_signal },
    { "waitpid", waits_for_child },
    { "pause", pause },
    { "pthread_cond_wait", waits_for_condition },
    { "pthread_cond_timedwait", waits_for_condition_for_a_time },
    { "fcntl, for a lock", waits_for_lock },
};

static void cancel_in(const char *name, int (*call)(void))
{
    void *result = NULL;
    task_t task = task_spawn(task_options.threads ? on_thread : on_fiber, (void *)call);
    while (!waiting)
        task_yield();
    waiting = 0;
    /* The task waits now or a little later; in both cases the call is ended. */
    for (int i = 0; i < 4; i++)
        task_yield();
    if (task_options.threads)
        check(pthread_cancel(task.thread), "pthread_cancel");
    else
        check(fiber_cancel(task.fiber), "fiber_cancel");
    result = task_join(task);
    show_trail(name, result, task_options.threads ? PTHREAD_CANCELED : FIBER_CANCELED);
}

/* Each of these calls waits for an event that never happens. */
static void cancel_in_others(void)
{
    struct mq_attr few = { .mq_maxmsg = 1, .mq_msgsize = 16 };
    char name[32];
    int holder[2];
    snprintf(name, sizeof name, "/cancelling-%d", (int)getpid());
    messages = mq_open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600, &few);
    mq_unlink(name);
    queue = msgget(IPC_PRIVATE, 0600);
    if (messages < 0 || queue < 0 || sem_init(&semaphore, 0, 0) || pipe2(holder, O_CLOEXEC) ||
        socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets))
        die("what they wait for");
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(holder[1]);
        _exit((int)read(holder[0], &byte, 1)); /* ends when the parent closes its end */
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cancel_in(others[i].name, others[i].call);
    close(holder[1]);
    close(holder[0]);
    if (waitpid(child, NULL, 0) != child)
        die("waitpid");
    msgctl(queue, IPC_RMID, NULL);
    mq_close(messages);
    close(sockets[0]);
    close(sockets[1]);
}

static void probe(void)
{
    char buf[8] = "";
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    cancel_in_others();
    cancel_in("read", reads);
    cancel_in("readv", reads_vector);
    cancel_in("nanosleep", sleeps);
    /* The cancelled calls have not consumed these bytes. */
    write_full(ends[1], "bytes", 5);
    SHOW(read(ends[0], buf, sizeof buf));
    printf("%s\n", buf);
    /* The first read takes the available data; then the wait for more is cancelled. */
    write_full(ends[1], "1234", 4);
    one_is_free = 1;
    cancel_in("a read, and one that waits", reads);
}
