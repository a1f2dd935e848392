/* SPDX-License-Identifier: MIT */
/* idle.c - all tasks of a program wait for events that never happen: none of its threads wakes up.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <mqueue.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/wait.h>

#include "blocking_task.h"

static int pipes[2], sockets[2], listener, terminal, fifo, epoll, queue, set;
static mqd_t posix_queue;

static void *for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static pid_t child_for_ever(void)
{
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(pipes[1]);
        _exit((int)read(pipes[0], &byte, 1)); /* ends when the parent does */
    }
    return child;
}

static long by_read(blocking_t *w)
{
    char byte;
    (void)w;
    return read(pipes[0], &byte, 1);
}
static long by_fifo(blocking_t *w)
{
    char byte;
    (void)w;
    return read(fifo, &byte, 1);
}
static long by_terminal(blocking_t *w)
{
    char byte;
    (void)w;
    return read(terminal, &byte, 1);
}
static long by_open_to_read(blocking_t *w)
{
    (void)w;
    return open("unread", O_RDONLY);
}
static long by_open_to_write(blocking_t *w)
{
    (void)w;
    return open("unwritten", O_WRONLY);
}
static long by_recv(blocking_t *w)
{
    char byte;
    (void)w;
    return recv(sockets[0], &byte, 1, 0);
}
static long by_peek(blocking_t *w)
{
    char two[2];
    (void)w;
    return recv(sockets[0], two, 2, MSG_PEEK | MSG_WAITALL);
}
static long by_accept(blocking_t *w)
{
    (void)w;
    return accept(listener, NULL, NULL);
}
static long by_poll(blocking_t *w)
{
    struct pollfd files[2] = { { pipes[0], POLLIN, 0 }, { sockets[0], POLLIN, 0 } };
    (void)w;
    return poll(files, 2, -1);
}
static long by_select(blocking_t *w)
{
    fd_set readable;
    (void)w;
    FD_ZERO(&readable);
    FD_SET(pipes[0], &readable);
    return select(pipes[0] + 1, &readable, NULL, NULL, NULL);
}
static long by_epoll(blocking_t *w)
{
    struct epoll_event event;
    (void)w;
    return epoll_wait(epoll, &event, 1, -1);
}
static long by_join(blocking_t *w)
{
    pthread_t thread;
    (void)w;
    check(pthread_create(&thread, NULL, for_ever, NULL), "pthread_create");
    return pthread_join(thread, NULL);
}
static long by_waitpid(blocking_t *w)
{
    (void)w;
    return waitpid(child_for_ever(), NULL, 0);
}
static long by_waitid(blocking_t *w)
{
    siginfo_t info;
    (void)w;
    return waitid(P_PGID, 0, &info, WEXITED | WSTOPPED);
}
static long by_flock(blocking_t *w)
{
    (void)w;
    return flock(open("lock", O_RDWR), LOCK_EX);
}
static long by_range(blocking_t *w)
{
    struct flock range = { .l_type = F_WRLCK };
    (void)w;
    return fcntl(open("range", O_RDWR), F_OFD_SETLKW, &range);
}
static long by_msgrcv(blocking_t *w)
{
    struct {
        long kind;
        char text[8];
    } m;
    (void)w;
    return msgrcv(queue, &m, 8, 0, 0);
}
static long by_semop(blocking_t *w)
{
    struct sembuf one = { 0, -1, 0 };
    (void)w;
    return semop(set, &one, 1);
}
static long by_mq_receive(blocking_t *w)
{
    char text[8192];
    (void)w;
    return mq_receive(posix_queue, text, sizeof text, NULL);
}

static long (*const calls[])(blocking_t *) = {
    by_read,   by_fifo,  by_terminal, by_open_to_read, by_open_to_write, by_recv,    by_peek,
    by_accept, by_poll,  by_select,   by_epoll,        by_join,          by_waitpid, by_waitid,
    by_flock,  by_range, by_msgrcv,   by_semop,        by_mq_receive,
};
enum { CALLS = sizeof calls / sizeof *calls };

/* How often the threads of the process, except for the calling one, have gone to sleep. */
static unsigned long switches(void)
{
    unsigned long all = 0;
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    while (tasks && (task = readdir(tasks))) {
        char path[300], line[200];
        unsigned long some;
        if (atoi(task->d_name) == (int)syscall(SYS_gettid) || task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "re");
        while (status && fgets(line, sizeof line, status))
            if (sscanf(line, "voluntary_ctxt_switches: %lu", &some) == 1)
                all += some;
        if (status)
            fclose(status);
    }
    closedir(tasks);
    return all;
}

/* Ends the process once no thread has woken up for longer than any polling interval. */
static void *observe(void *unused)
{
    (void)unused;
    unsigned long before, after = switches();
    do {
        before = after;
        usleep(1200000);
        after = switches();
    } while (after != before);
    puts("idle");
    fflush(stdout);
    msgctl(queue, IPC_RMID, NULL);
    semctl(set, 0, IPC_RMID);
    _exit(0);
}

static void probe(void)
{
    static blocking_t waiters[CALLS];
    struct sockaddr_in address;
    struct flock range = { .l_type = F_WRLCK };
    struct epoll_event event = { .events = EPOLLIN };
    pthread_t observer;
    int master, lock = open("lock", O_RDWR | O_CREAT, 0600),
                locked = open("range", O_RDWR | O_CREAT, 0600);
    char name[32];
    snprintf(name, sizeof name, "/aioshim-idle-%d", (int)getpid());
    posix_queue = mq_open(name, O_RDWR | O_CREAT, 0600, NULL);
    mq_unlink(name);
    queue = msgget(IPC_PRIVATE, 0600);
    set = semget(IPC_PRIVATE, 1, 0600);
    if (mkfifo("fifo", 0600) || mkfifo("unread", 0600) || mkfifo("unwritten", 0600) ||
        pipe2(pipes, O_CLOEXEC) || openpty(&master, &terminal, NULL, NULL, NULL) || queue < 0 ||
        set < 0 || posix_queue < 0)
        die("what they wait for");
    fifo = open("fifo", O_RDWR);
    make_pair(UNIX_STREAM, sockets);
    listener = bound(SOCK_STREAM, &address);
    epoll = epoll_create1(0);
    if (fifo < 0 || listen(listener, 1) || epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event) ||
        flock(lock, LOCK_EX) || fcntl(locked, F_OFD_SETLK, &range))
        die("what they wait for");
    for (int i = 0; i < CALLS; i++) {
        waiters[i].call = calls[i];
        blocking_start(&waiters[i]);
        blocking_await(&waiters[i]);
    }
    check(pthread_create(&observer, NULL, observe, NULL), "pthread_create");
    blocking_show(&waiters[0], "a wait for nothing");
}
