/* SPDX-License-Identifier: MIT */
/* event_first.c - the event of a call happens, and right after it a signal arrives whose handler
 * was installed without SA_RESTART: the call succeeds, and the handler also runs. */
#define _GNU_SOURCE
#include "probe.h"

#include <arpa/inet.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum { ROUNDS = 40, MOST_WAIT = 20000 };

static volatile sig_atomic_t handled;
static int ends[2], pair[2], epoll = -1, queue, set, event, listener, locked;
static mqd_t messages;
static sem_t *semaphore;
static struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "listener" };
static char buf[8192];

struct message {
    long kind;
    char text[8];
};

static void on_signal(int number) { handled += number == SIGUSR1; }

static long wait_read(void) { return read(ends[0], buf, 8); }
static long wait_recv(void) { return recv(pair[0], buf, 8, 0); }
static long wait_recvmsg(void)
{
    struct iovec part = { buf, 8 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    return recvmsg(pair[0], &message, 0);
}
static long wait_peek(void)
{
    char two[2];
    long result = recv(pair[0], two, 2, MSG_PEEK | MSG_WAITALL);
    return result == 2 ? recv(pair[0], two, 2, MSG_DONTWAIT) : -1;
}
static long wait_poll(void)
{
    struct pollfd polled[2] = { { .fd = ends[0], .events = POLLIN },
                                { .fd = pair[0], .events = POLLIN } };
    return poll(polled, 2, MOST_WAIT);
}
static long wait_ppoll(void)
{
    struct pollfd polled = { .fd = ends[0], .events = POLLIN };
    sigset_t none;
    sigemptyset(&none);
    return ppoll(&polled, 1, NULL, &none);
}
static long wait_select(void)
{
    fd_set readable;
    struct timeval limit = { MOST_WAIT / 1000, 0 };
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
    return select(ends[0] + 1, &readable, NULL, NULL, &limit);
}
static long wait_epoll(void)
{
    struct epoll_event found;
    return epoll_wait(epoll, &found, 1, MOST_WAIT);
}
static long wait_msgrcv(void)
{
    struct message message;
    return msgrcv(queue, &message, sizeof message.text, 0, 0);
}
static long wait_semop(void)
{
    struct sembuf take = { 0, -1, 0 };
    return semop(set, &take, 1);
}
static long wait_mq(void) { return mq_receive(messages, buf, sizeof buf, NULL); }
static long wait_sem(void) { return sem_wait(semaphore); }
static long wait_eventfd(void)
{
    uint64_t count;
    return read(event, &count, sizeof count);
}
static long wait_open(void)
{
    int fd = open("fifo", O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd;
}
static long wait_accept(void)
{
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0)
        close(fd);
    return fd;
}
static long wait_child(void) { return wait(NULL); }
static long wait_flock(void)
{
    long result = flock(locked, LOCK_EX);
    flock(locked, LOCK_UN);
    return result;
}
static long wait_splice(void) { return splice(ends[0], NULL, locked, NULL, 8, 0); }

static void by_pipe(void) { write_full(ends[1], "x", 1); }
static void by_pair(void) { write_full(pair[1], "x", 1); }
static void by_two(void) { write_full(pair[1], "xy", 2); }
static void by_message(void)
{
    struct message message = { 1, "x" };
    if (msgsnd(queue, &message, sizeof message.text, 0))
        die("msgsnd");
}
static void by_semop(void)
{
    struct sembuf give = { 0, 1, 0 };
    if (semop(set, &give, 1))
        die("semop");
}
static void by_mq(void)
{
    if (mq_send(messages, "x", 1, 0))
        die("mq_send");
}
static void by_post(void)
{
    if (sem_post(semaphore))
        die("sem_post");
}
static void by_event(void)
{
    if (eventfd_write(event, 1))
        die("eventfd_write");
}
static void by_opening(void)
{
    if (open("fifo", O_WRONLY | O_CLOEXEC) < 0)
        die("fifo");
}
static void by_connecting(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        die("connect");
}
static void by_ending(void) {}
static void by_unlocking(void)
{
    if (flock(locked, LOCK_UN))
        die("unlock");
}

static const struct {
    const char *name;
    long (*wait)(void);
    void (*event)(void);
} CASES[] = {
    { "read", wait_read, by_pipe },        { "recv", wait_recv, by_pair },
    { "recvmsg", wait_recvmsg, by_pair },  { "poll", wait_poll, by_pipe },
    { "ppoll", wait_ppoll, by_pipe },      { "select", wait_select, by_pipe },
    { "epoll_wait", wait_epoll, by_pipe }, { "msgrcv", wait_msgrcv, by_message },
    { "semop", wait_semop, by_semop },     { "mq_receive", wait_mq, by_mq },
    { "sem_wait", wait_sem, by_post },     { "eventfd", wait_eventfd, by_event },
    { "open", wait_open, by_opening },     { "accept", wait_accept, by_connecting },
    { "splice", wait_splice, by_pipe },    { "wait", wait_child, by_ending },
    { "peek", wait_peek, by_two },
};

static void setup(void)
{
    char name[32];
    struct mq_attr attributes = { .mq_maxmsg = 4, .mq_msgsize = sizeof buf };
    struct sigaction action = { .sa_handler = on_signal };
    snprintf(name, sizeof name, "/eventfirst.%d", (int)getpid());
    messages = mq_open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600, &attributes);
    mq_unlink(name);
    queue = msgget(IPC_PRIVATE, 0600);
    set = semget(IPC_PRIVATE, 1, 0600);
    event = eventfd(0, EFD_CLOEXEC);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    locked = open("locked", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    semaphore = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (messages == (mqd_t)-1 || queue < 0 || set < 0 || event < 0 || locked < 0 ||
        semaphore == MAP_FAILED || sem_init(semaphore, 1, 0) || mkfifo("fifo", 0600) ||
        sigaction(SIGUSR1, &action, NULL) ||
        bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 5))
        die("setup");
}

/* Uses TCP, because on a Unix socket even the kernel prefers the signal. */
static void connect_pair(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    int accepting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(accepting, (struct sockaddr *)&at, size) || listen(accepting, 1) ||
        getsockname(accepting, (struct sockaddr *)&at, &size) ||
        connect(pair[1], (struct sockaddr *)&at, size) ||
        (pair[0] = accept(accepting, NULL, NULL)) < 0 || close(accepting))
        die("sockets");
}

static void open_streams(void)
{
    struct epoll_event wanted = { .events = EPOLLIN };
    if (pipe2(ends, O_CLOEXEC) || (epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &wanted))
        die("streams");
}

static void close_streams(void)
{
    for (int i = 0; i < 2; i++)
        if (close(ends[i]))
            die("close");
    if (close(epoll))
        die("close");
}

static pid_t start(int round, void (*happen)(void), pid_t to)
{
    pid_t child = fork();
    if (child)
        return child;
    struct timespec later = { 0, round * 13 % 700 * 1000 };
    nanosleep(&later, NULL);
    happen();
    if (happen != by_ending)
        kill(to, SIGUSR1);
    _exit(0);
}

/* The end of the child is the event. SIGCHLD arrives with it, and its handler must not end the
 * wait. */
static void also_on_child(int on)
{
    struct sigaction action = { .sa_handler = on ? on_signal : SIG_DFL };
    if (sigaction(SIGCHLD, &action, NULL))
        die("sigaction");
}

/* A child holds the lock when the wait begins, through its own descriptor. */
static void unlock_by_child(void)
{
    int failed = 0;
    for (int i = 0; i < ROUNDS; i++) {
        int said[2];
        char byte;
        pid_t me = getpid();
        if (pipe2(said, O_CLOEXEC))
            die("pipe2");
        pid_t child = fork();
        if (!child) {
            locked = open("locked", O_RDWR | O_CLOEXEC);
            if (locked < 0 || flock(locked, LOCK_EX))
                die("lock");
            write_full(said[1], "x", 1);
            struct timespec later = { 0, i * 13 % 700 * 1000 };
            nanosleep(&later, NULL);
            by_unlocking();
            kill(me, SIGUSR1);
            _exit(0);
        }
        while (read(said[0], &byte, 1) < 0 && errno == EINTR)
            ;
        failed += wait_flock() != 0;
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
        close(said[0]);
        close(said[1]);
    }
    printf("flock: %d failed\n", failed);
}

/* These check their files first and then for a signal, in the kernel, too. If both the event and
 * the signal arrive in between, which happens on a busy machine, the signal wins. */
static int tolerated(long (*wait)(void))
{
    return wait == wait_poll || wait == wait_ppoll || wait == wait_select || wait == wait_epoll;
}

static void probe(void)
{
    setup();
    connect_pair();
    for (unsigned k = 0; k < sizeof CASES / sizeof *CASES; k++) {
        int failed = 0;
        also_on_child(CASES[k].event == by_ending);
        for (int i = 0; i < ROUNDS; i++) {
            open_streams();
            pid_t child = start(i, CASES[k].event, getpid());
            long result = CASES[k].wait();
            if (result < 0)
                failed++;
            if (result < 0 || CASES[k].event != by_ending)
                while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
                    ;
            close_streams();
        }
        printf("%s: %d failed\n", CASES[k].name, failed > tolerated(CASES[k].wait) ? failed : 0);
    }
    also_on_child(0);
    unlock_by_child();
    printf("handled: %d\n", handled > 0);
    if (msgctl(queue, IPC_RMID, NULL) || semctl(set, 0, IPC_RMID))
        die("cleaning up");
}
