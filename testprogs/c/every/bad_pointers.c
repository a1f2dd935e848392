/* SPDX-License-Identifier: MIT */
/* bad_pointers.c - makes each call with each of its pointers bad in several ways, once when its
 * event has already happened and once when it happens during the call. The result must be the
 * kernel's, an error or success, and never a signal that does not occur without the preload. A
 * child makes all calls; if one ends it, another child makes the remaining ones. */
#define _GNU_SOURCE
#include "probe.h"

#include <dirent.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <threads.h>
#include <time.h>

static char buf[8192];
static int ends[2], pair[2], grams[2], file, epoll, set, queue, event, listener, full[2], talk[2];
static mqd_t messages;
static pid_t child_of_child;
static struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "bp" };
static const struct timespec MOMENT = { 0, 2000000 }, LONG = { 20, 0 };
static sigset_t wanted;
static char *memory;

static struct msghdr *message_of(void *p)
{
    static struct msghdr message;
    static struct iovec part;
    part = (struct iovec){ p, 8 };
    message = (struct msghdr){ .msg_iov = &part, .msg_iovlen = 1 };
    return &message;
}

static struct iovec *part_of(void *p)
{
    static struct iovec part;
    part = (struct iovec){ p, 8 };
    return &part;
}

static socklen_t *size(void)
{
    static socklen_t length;
    length = sizeof address;
    return &length;
}

/* For functions that return error numbers. */
static long code(int error)
{
    errno = error;
    return error ? -1 : 0;
}

/* Calls that end at once. The events of those that can wait have already happened. */
/* clang-format off */
#define AT_ONCE(X) \
    X(read(file, p, 8)) X(write(file, p, 8)) X(pread(file, p, 8, 0)) X(pwrite(file, p, 8, 0)) \
    X(readv(file, p, 1)) X(readv(file, part_of(p), 1)) X(writev(file, p, 1)) \
    X(writev(file, part_of(p), 1)) X(preadv(file, p, 1, 0)) X(pwritev(file, p, 1, 0)) \
    X(preadv2(file, p, 1, 0, 0)) X(pwritev2(file, p, 1, 0, 0)) X(write(ends[1], p, 8)) \
    X(writev(ends[1], p, 1)) X(open(p, O_RDONLY)) X(openat(AT_FDCWD, p, O_RDONLY)) \
    X(creat(p, 0600)) X(stat(p, (void *)buf)) X(stat("/", p)) X(lstat("/", p)) X(fstat(file, p)) \
    X(statx(AT_FDCWD, "/", 0, STATX_ALL, p)) X(access(p, R_OK)) X(statfs("/", p)) \
    X(fstatfs(file, p)) X(unlink(p)) X(rename(p, "x")) X(rename("x", p)) X(mkdir(p, 0700)) \
    X(rmdir(p)) X(chdir(p)) X(link(p, "x")) X(symlink(p, "x")) \
    X(readlink("/proc/self/exe", p, 10)) X(readlink(p, buf, 10)) X(truncate(p, 0)) \
    X(getxattr("/", p, buf, 8)) X(getxattr(p, "user.x", buf, 8)) \
    X(utimensat(AT_FDCWD, ".", p, 0)) X(mkfifo(p, 0600)) \
    X(syscall(SYS_getdents64, open("/", O_RDONLY | O_DIRECTORY), p, 300)) X(getrandom(p, 8, 0)) \
    X(send(pair[0], p, 8, 0)) X(sendto(pair[0], p, 8, 0, NULL, 0)) \
    X(sendto(grams[0], "x", 1, 0, p, 16)) X(sendmsg(pair[0], p, 0)) \
    X(sendmsg(pair[0], message_of(p), 0)) X(sendmmsg(pair[0], p, 1, 0)) \
    X(connect(socket(AF_UNIX, SOCK_STREAM, 0), p, 16)) \
    X(epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], p)) X(ppoll(NULL, 0, &MOMENT, p)) \
    X(select(3, p, NULL, NULL, &(struct timeval){ 0, 2000 })) \
    X(select(3, NULL, p, NULL, &(struct timeval){ 0, 2000 })) \
    X(select(3, NULL, NULL, p, &(struct timeval){ 0, 2000 })) \
    X(pselect(3, p, NULL, NULL, &MOMENT, NULL)) X(pselect(0, NULL, NULL, NULL, &MOMENT, p)) \
    X(epoll_pwait(epoll, (void *)buf, 1, 2, p)) X(nanosleep(p, NULL)) \
    X(code(clock_nanosleep(CLOCK_MONOTONIC, 0, p, NULL))) \
    X(code(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, p, NULL))) X(thrd_sleep(p, NULL)) \
    X(sigsuspend(p)) X(sigwaitinfo(p, NULL)) X(sigtimedwait(p, NULL, &MOMENT)) \
    X(sigtimedwait(&wanted, NULL, p)) X(sigtimedwait(&wanted, p, &MOMENT)) \
    X(fcntl(file, F_SETLK, p)) X(fcntl(file, F_SETLKW, p)) X(fcntl(file, F_GETLK, p)) \
    X(sendfile(pair[0], file, p, 1)) X(splice(file, p, ends[1], NULL, 1, 0)) \
    X(vmsplice(ends[1], p, 1, 0)) X(copy_file_range(file, p, file, NULL, 1, 0)) \
    X(msgsnd(queue, p, 1, 0)) X(semop(set, p, 1)) X(semtimedop(set, p, 1, &MOMENT)) \
    X(semtimedop(set, &(struct sembuf){ 0, -1, 0 }, 1, p)) X(mq_open(p, O_RDONLY)) \
    X(mq_send(messages, p, 1, 0)) X(mq_timedreceive(messages, buf, sizeof buf, NULL, p)) \
    X(mq_timedsend(messages, "x", 1, 0, p)) X(syscall(SYS_read, file, p, 8L)) \
    X(syscall(SYS_write, ends[1], p, 8L)) X(syscall(SYS_nanosleep, p, NULL)) \
    X(syscall(SYS_open, p, O_RDONLY)) X(syscall(SYS_futex, &file, 0, file, p)) \
    X(syscall(SYS_futex, p, 0, 1, &MOMENT)) X(syscall(SYS_futex, p, 1, 1)) X(pipe2(p, 0)) \
    X(poll(p, 1, 2)) X(ppoll(p, 1, &MOMENT, NULL))
/* clang-format on */

/* Calls that wait, and the events that end the waits. */
/* clang-format off */
#define WAITING(X) \
    X(read(ends[0], p, 8)) X(readv(ends[0], p, 1)) X(readv(ends[0], part_of(p), 1)) \
    X(recv(pair[0], p, 8, 0)) X(read(pair[0], p, 8)) X(recvfrom(pair[0], p, 8, 0, NULL, NULL)) \
    X(recvfrom(grams[0], p, 8, 0, (void *)&address, size())) \
    X(recvfrom(grams[0], buf, 8, 0, p, size())) \
    X(recvfrom(grams[0], buf, 8, 0, (void *)&address, p)) X(recvmsg(pair[0], p, 0)) \
    X(recvmsg(pair[0], message_of(p), 0)) X(recvmmsg(grams[0], p, 1, 0, NULL)) \
    X(recvmmsg(grams[0], &(struct mmsghdr){ .msg_hdr = *message_of(buf) }, 1, 0, p)) \
    X(accept(listener, p, size())) X(accept(listener, (void *)&address, p)) \
    X(accept4(listener, p, size(), SOCK_CLOEXEC)) \
    X(ppoll(&(struct pollfd){ ends[0], POLLIN, 0 }, 1, NULL, p)) X(epoll_wait(epoll, p, 1, 2000)) \
    X(epoll_pwait(epoll, (void *)buf, 1, 2000, p)) X(wait(p)) X(waitpid(-1, p, 0)) \
    X(wait4(-1, NULL, 0, p)) X(waitid(P_ALL, 0, p, WEXITED)) \
    X(waitid(P_PID, (id_t)child_of_child, p, WEXITED)) X(msgrcv(queue, p, 4, 0, 0)) \
    X(mq_receive(messages, p, sizeof buf, NULL)) X(mq_receive(messages, buf, sizeof buf, p)) \
    X(read(event, p, 8)) X(sigwaitinfo(&wanted, p)) X(sigtimedwait(&wanted, p, &LONG)) \
    X(nanosleep(&LONG, p)) X(code(clock_nanosleep(CLOCK_MONOTONIC, 0, &LONG, p))) \
    X(thrd_sleep(&LONG, p)) X(write(full[1], p, 8)) X(syscall(SYS_nanosleep, &LONG, p))
/* clang-format on */

#define NAME(call) #call,
static const char *const NAMES[] = { AT_ONCE(NAME) WAITING(NAME) };
enum { CALLS = sizeof NAMES / sizeof *NAMES };
#define ONE(call) 1 +
enum { FIRST_WAITING = AT_ONCE(ONE) 0 };

static long make(int number, void *p)
{
    int here = 0;
#define CASE(call)        \
    if (number == here++) \
        return (long)(call);
    AT_ONCE(CASE) WAITING(CASE) return 0;
}

static void on_signal(int number) { (void)number; }

static void setup(void)
{
    char name[32];
    struct mq_attr attributes = { .mq_maxmsg = 4, .mq_msgsize = sizeof buf };
    struct epoll_event readable = { .events = EPOLLIN };
    struct sigaction action = { .sa_handler = on_signal };
    snprintf(name, sizeof name, "/badpointers.%d", (int)getpid());
    messages = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
    mq_unlink(name);
    queue = msgget(IPC_PRIVATE, 0600);
    set = semget(IPC_PRIVATE, 1, 0600);
    event = eventfd(0, 0);
    file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    epoll = epoll_create1(0);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    unlink(address.sun_path);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    if (messages == (mqd_t)-1 || queue < 0 || set < 0 || event < 0 || file < 0 || epoll < 0 ||
        pipe(ends) || pipe(full) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
        socketpair(AF_UNIX, SOCK_DGRAM, 0, grams) ||
        bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &readable) ||
        sigprocmask(SIG_BLOCK, &wanted, NULL) || sigaction(SIGALRM, &action, NULL) ||
        sigaction(SIGUSR1, &action, NULL) || fcntl(full[1], F_SETPIPE_SZ, 4096) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, talk))
        die("setup");
}

static int has_something(int fd)
{
    struct pollfd polled = { .fd = fd, .events = POLLIN };
    return poll(&polled, 1, 0) == 1;
}

/* Restores the state after the setup, so that one call does not affect the next. */
static void reset(void)
{
    static const struct timespec PAST = { 0, 0 };
    const int streams[] = { ends[0], pair[0], pair[1], grams[0], grams[1], event, full[0] };
    struct epoll_event readable = { .events = EPOLLIN };
    struct flock unlocked = { .l_type = F_UNLCK };
    for (unsigned i = 0; i < sizeof streams / sizeof *streams; i++)
        while (has_something(streams[i]))
            if (read(streams[i], buf, sizeof buf) < 0)
                die("draining");
    while (has_something(listener))
        close(accept(listener, NULL, NULL));
    while (msgrcv(queue, buf, 4096, 0, IPC_NOWAIT) >= 0)
        ;
    while (mq_timedreceive(messages, buf, sizeof buf, NULL, &PAST) >= 0)
        ;
    while (sigtimedwait(&wanted, NULL, &PAST) >= 0)
        ;
    memset(buf, 0, sizeof buf);
    memset(memory, 0, (size_t)sysconf(_SC_PAGESIZE));
    address = (struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "bp" };
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &readable) || fcntl(file, F_SETLK, &unlocked) ||
        ftruncate(file, 0) || lseek(file, 0, SEEK_SET) || pwrite(file, "12345678", 8, 0) != 8 ||
        write(full[1], buf, 4096) != 4096)
        die("reset");
}

/* Causes the events of all waits. */
static void happen(pid_t to)
{
    struct {
        long kind;
        char text[4];
    } message = { 1, "abc" };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (write(ends[1], "abc", 3) != 3 || write(pair[1], "abc", 3) != 3 ||
        write(grams[1], "abc", 3) != 3 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) || msgsnd(queue, &message, 4, 0) ||
        mq_send(messages, "abc", 3, 7) || eventfd_write(event, 5) ||
        read(full[0], buf, 4096) != 4096)
        die("happening");
    close(fd);
    kill(to, SIGUSR1);
}

static const struct {
    const char *how;
    long page, back;
} BAD[] = {
    { "no access", 1, 0 },
    { "its end out of reach", 1, 4 },
    { "only to be read", 2, 0 },
    { "nothing mapped", -1, 0 },
};
enum { KINDS = sizeof BAD / sizeof *BAD };

static void *bad(unsigned kind)
{
    return BAD[kind].page < 0 ? (char *)8
                              : memory + BAD[kind].page * sysconf(_SC_PAGESIZE) - BAD[kind].back;
}

static void make_and_show(int number, unsigned kind, const char *when)
{
    errno = 0;
    long result = make(number, bad(kind));
    int error = errno;
    printf("%s, %s%s: %s\n", NAMES[number], BAD[kind].how, when,
           result == -1 ? strerror(error)
           : result < 0 ? "failure"
                        : "success");
}

static int sleeps(int number) { return strstr(NAMES[number], "LONG, p") != NULL; }

/* Whether the call would wait forever, because its signal set is readable but empty. */
static int waits_for_ever(int number, unsigned kind)
{
    return BAD[kind].page == 2 && (!strcmp(NAMES[number], "sigsuspend(p)") ||
                                   !strncmp(NAMES[number], "sigwaitinfo(p", 13));
}

/* A call, the kind of bad pointer, and whether the event happens during the call. */
struct attempt {
    int number;
    unsigned kind;
    int later;
};

/* Shared with the child: its current attempt, and the objects that outlive it. */
struct state {
    struct attempt attempt;
    int queue, set;
};

static int follow(struct attempt *attempt)
{
    if (attempt->number >= FIRST_WAITING && !attempt->later)
        return attempt->later = 1;
    attempt->later = 0;
    attempt->kind = (attempt->kind + 1) % KINDS;
    attempt->number += attempt->kind == 0;
    return attempt->number < CALLS;
}

static void say(int to, char what) { write_full(to, &what, 1); }

static char hear(int from)
{
    char what;
    ssize_t n;
    while ((n = read(from, &what, 1)) < 0)
        if (errno != EINTR)
            die("hear");
    return n ? what : 0;
}

/* The peer process causes the events when it is told to: at once, later, or later with signals
 * until it is told to stop. */
static void be_peer(pid_t to)
{
    struct timespec moment = { 0, 4000000 };
    char what;
    close(talk[0]);
    while ((what = hear(talk[1])) != 0) {
        if (what != 'n')
            nanosleep(&moment, NULL);
        happen(to);
        for (; what == 's' && !has_something(talk[1]); nanosleep(&moment, NULL))
            kill(to, SIGALRM);
        if (what == 's')
            hear(talk[1]);
        say(talk[1], 'd');
    }
    _exit(0);
}

/* For waits for children, starts a child that ends at once or later. */
static void start_child(const struct attempt *attempt)
{
    struct timespec moment = { 0, 4000000 };
    siginfo_t ended;
    child_of_child = strncmp(NAMES[attempt->number], "wait", 4) ? -1 : fork();
    if (child_of_child == 0) {
        if (attempt->later)
            nanosleep(&moment, NULL);
        _exit(0);
    }
    if (child_of_child > 0 && !attempt->later &&
        waitid(P_PID, (id_t)child_of_child, &ended, WEXITED | WNOWAIT))
        die("waitid");
}

static void wait_badly(const struct attempt *attempt)
{
    int until_told = sleeps(attempt->number);
    start_child(attempt);
    alarm(20);
    say(talk[0], until_told ? 's' : attempt->later ? 'l' : 'n');
    if (!attempt->later && !until_told)
        hear(talk[0]);
    make_and_show(attempt->number, attempt->kind, attempt->later ? ", later" : "");
    alarm(0);
    if (until_told)
        say(talk[0], 'e');
    if (attempt->later || until_told)
        hear(talk[0]);
    if (child_of_child > 0)
        waitpid(child_of_child, NULL, 0);
}

/* Makes this attempt and all following ones. */
static void make_all(struct state *state)
{
    struct attempt *attempt = &state->attempt;
    pid_t me = getpid(), peer;
    setup();
    state->queue = queue;
    state->set = set;
    if ((peer = fork()) == 0)
        be_peer(me);
    do {
        if (attempt->kind == 0 || attempt->number >= FIRST_WAITING)
            reset();
        if (attempt->number >= FIRST_WAITING)
            wait_badly(attempt);
        else if (!waits_for_ever(attempt->number, attempt->kind))
            make_and_show(attempt->number, attempt->kind, "");
    } while (follow(attempt));
    close(talk[0]);
    waitpid(peer, NULL, 0);
    fflush(stdout);
    _exit(0);
}

static void probe(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct state *state =
        mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory = mmap(NULL, page * 3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (state == MAP_FAILED || memory == MAP_FAILED || mprotect(memory + page, page, PROT_NONE) ||
        mprotect(memory + 2 * page, page, PROT_READ))
        die("mmap");
    struct attempt *attempt = &state->attempt;
    for (int status;;) {
        fflush(stdout);
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0)
            make_all(state);
        while (waitpid(child, &status, 0) < 0)
            if (errno != EINTR)
                die("waitpid");
        msgctl(state->queue, IPC_RMID, NULL);
        semctl(state->set, 0, IPC_RMID);
        if (status == 0)
            break;
        /* Another child makes the rest. */
        printf("%s, %s%s: %s %d\n", NAMES[attempt->number], BAD[attempt->kind].how,
               attempt->later ? ", later" : "", WIFSIGNALED(status) ? "signal" : "exit",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        if (!follow(attempt))
            break;
    }
}
