/* SPDX-License-Identifier: MIT */
/* clock_namespace.c - timed waits in a time namespace, whose CLOCK_MONOTONIC and CLOCK_BOOTTIME
 * differ from those of the machine: each wait has the requested length. Exits with 77 if creating
 * the namespace is not allowed. */
#define _GNU_SOURCE
#include "probe.h"

#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { NEW_TIME = 0x80, WAIT_NS = 40000000, LONG_NS = 2000000000, SECOND = 1000000000 };

static int ends[2], pair[2], epoll, set;
static mqd_t messages;

static int64_t now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time))
        die("clock_gettime");
    return (int64_t)time.tv_sec * SECOND + time.tv_nsec;
}

static struct timespec after_now(clockid_t clock)
{
    int64_t end = now(clock) + WAIT_NS;
    return (struct timespec){ end / SECOND, end % SECOND };
}

#define LASTS(call)                                                                          \
    do {                                                                                     \
        int64_t begin = now(CLOCK_MONOTONIC);                                                \
        long result = (long)(call);                                                          \
        int64_t took = now(CLOCK_MONOTONIC) - begin;                                         \
        printf("%s: %ld, %s\n", #call, result,                                               \
               took<WAIT_NS - 1000000 ? "too short" : took> LONG_NS ? "too long" : "right"); \
    } while (0)

static long absolute(clockid_t clock)
{
    struct timespec end = after_now(clock);
    return clock_nanosleep(clock, TIMER_ABSTIME, &end, NULL);
}

static long relative(clockid_t clock)
{
    struct timespec time = { 0, WAIT_NS };
    return clock_nanosleep(clock, 0, &time, NULL);
}

static long by_select(void)
{
    struct timeval limit = { 0, WAIT_NS / 1000 };
    return select(0, NULL, NULL, NULL, &limit);
}

static long by_ppoll(void)
{
    struct pollfd polled = { .fd = ends[0], .events = POLLIN };
    struct timespec limit = { 0, WAIT_NS };
    return ppoll(&polled, 1, &limit, NULL);
}

static long by_epoll(void)
{
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, WAIT_NS / 1000000);
}

static long by_recv(void)
{
    char byte;
    struct timeval limit = { 0, WAIT_NS / 1000 };
    if (setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit))
        die("setsockopt");
    return recv(pair[0], &byte, 1, 0);
}

static long by_mutex(void)
{
    pthread_mutex_t mutex;
    pthread_mutexattr_t kind;
    struct timespec end = after_now(CLOCK_REALTIME);
    pthread_mutexattr_init(&kind);
    pthread_mutex_init(&mutex, &kind);
    pthread_mutex_lock(&mutex);
    return pthread_mutex_timedlock(&mutex, &end);
}

static long by_condition(clockid_t clock)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition;
    pthread_condattr_t kind;
    struct timespec end = after_now(clock);
    pthread_condattr_init(&kind);
    pthread_condattr_setclock(&kind, clock);
    pthread_cond_init(&condition, &kind);
    pthread_mutex_lock(&mutex);
    return pthread_cond_timedwait(&condition, &mutex, &end);
}

static long by_semaphore(void)
{
    sem_t semaphore;
    struct timespec end = after_now(CLOCK_REALTIME);
    sem_init(&semaphore, 0, 0);
    return sem_timedwait(&semaphore, &end);
}

static long by_futex(void)
{
    static int word;
    struct timespec end = after_now(CLOCK_MONOTONIC);
    return syscall(SYS_futex, &word, 9 | 128 /* FUTEX_WAIT_BITSET, private */, 0, &end, NULL, ~0);
}

static long by_signal(void)
{
    sigset_t wanted;
    struct timespec limit = { 0, WAIT_NS };
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    return sigtimedwait(&wanted, NULL, &limit);
}

static long by_semop(void)
{
    struct sembuf take = { 0, -1, 0 };
    struct timespec limit = { 0, WAIT_NS };
    return semtimedop(set, &take, 1, &limit);
}

static long by_messages(void)
{
    char buf[8192];
    struct timespec end = after_now(CLOCK_REALTIME);
    return mq_timedreceive(messages, buf, sizeof buf, NULL, &end);
}

static void waits(void)
{
    char name[32];
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 8192 };
    snprintf(name, sizeof name, "/otherclock.%d", (int)getpid());
    messages = mq_open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600, &attributes);
    mq_unlink(name);
    set = semget(IPC_PRIVATE, 1, 0600);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (messages == (mqd_t)-1 || set < 0 || epoll < 0 || pipe2(ends, O_CLOEXEC) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        die("setup");
    LASTS(usleep(WAIT_NS / 1000));
    LASTS(relative(CLOCK_MONOTONIC));
    LASTS(relative(CLOCK_REALTIME));
    LASTS(relative(CLOCK_BOOTTIME));
    LASTS(absolute(CLOCK_MONOTONIC));
    LASTS(absolute(CLOCK_REALTIME));
    LASTS(absolute(CLOCK_BOOTTIME));
    LASTS(absolute(CLOCK_TAI));
    LASTS(by_select());
    LASTS(by_ppoll());
    LASTS(by_epoll());
    LASTS(by_recv());
    LASTS(by_mutex());
    LASTS(by_condition(CLOCK_REALTIME));
    LASTS(by_condition(CLOCK_MONOTONIC));
    LASTS(by_semaphore());
    LASTS(by_futex());
    LASTS(by_signal());
    LASTS(by_semop());
    LASTS(by_messages());
    semctl(set, 0, IPC_RMID);
}

/* The new clocks apply only to children of the process that creates the namespace, so the probe
 * runs in a child, which is forked before there are threads. */
__attribute__((constructor)) static void move_clocks(void)
{
    static const char OFFSETS[] = "monotonic 10 0\nboottime 20 0\n";
    int status;
    int fd = -1;
    if (unshare(NEW_TIME) || (fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC)) < 0 ||
        write(fd, OFFSETS, sizeof OFFSETS - 1) < 0) {
        fprintf(stderr, "no time namespace: %s\n", strerror(errno));
        _exit(77);
    }
    close(fd);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        return;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void probe(void) { waits(); }
