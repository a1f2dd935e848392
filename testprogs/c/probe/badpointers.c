/* SPDX-License-Identifier: MIT */
/* badpointers.c - each call with each of its pointers bad in several ways, when what it waits for is there and when it is yet to
 * come: what the kernel says of it, an error or success, and never a signal where there is none without the preload. A child a call. */
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
static int ends[2], pair[2], grams[2], file, epoll, set, queue, event, listener, full[2];
static mqd_t messages;
static pid_t child_of_child;
static struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "bp" };
static const struct timespec MOMENT = { 0, 2000000 }, LONG = { 20, 0 };
static sigset_t wanted;

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

/* Functions that return error numbers. */
static long code(int error)
{
    errno = error;
    return error ? -1 : 0;
}


/* Calls that end at once: those that wait have here what they wait for. */
#define AT_ONCE(X) \
    X(read(file, p, 8)) X(write(file, p, 8)) X(pread(file, p, 8, 0)) X(pwrite(file, p, 8, 0)) \
    X(readv(file, p, 1)) X(readv(file, part_of(p), 1)) X(writev(file, p, 1)) X(writev(file, part_of(p), 1)) \
    X(preadv(file, p, 1, 0)) X(pwritev(file, p, 1, 0)) X(preadv2(file, p, 1, 0, 0)) X(pwritev2(file, p, 1, 0, 0)) \
    X(write(ends[1], p, 8)) X(writev(ends[1], p, 1)) X(open(p, O_RDONLY)) X(openat(AT_FDCWD, p, O_RDONLY)) \
    X(creat(p, 0600)) X(stat(p, (void *)buf)) X(stat("/", p)) X(lstat("/", p)) X(fstat(file, p)) \
    X(statx(AT_FDCWD, "/", 0, STATX_ALL, p)) X(access(p, R_OK)) X(statfs("/", p)) X(fstatfs(file, p)) \
    X(unlink(p)) X(rename(p, "x")) X(rename("x", p)) X(mkdir(p, 0700)) X(rmdir(p)) X(chdir(p)) X(link(p, "x")) \
    X(symlink(p, "x")) X(readlink("/proc/self/exe", p, 10)) X(readlink(p, buf, 10)) X(truncate(p, 0)) \
    X(getxattr("/", p, buf, 8)) X(getxattr(p, "user.x", buf, 8)) X(utimensat(AT_FDCWD, ".", p, 0)) X(mkfifo(p, 0600)) \
    X(syscall(SYS_getdents64, open("/", O_RDONLY | O_DIRECTORY), p, 300)) X(getrandom(p, 8, 0)) \
    X(send(pair[0], p, 8, 0)) X(sendto(pair[0], p, 8, 0, NULL, 0)) \
    X(sendto(grams[0], "x", 1, 0, p, 16)) X(sendmsg(pair[0], p, 0)) X(sendmsg(pair[0], message_of(p), 0)) \
    X(sendmmsg(pair[0], p, 1, 0)) X(connect(socket(AF_UNIX, SOCK_STREAM, 0), p, 16)) \
    X(epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], p)) X(ppoll(NULL, 0, &MOMENT, p)) \
    X(select(3, p, NULL, NULL, &(struct timeval){ 0, 2000 })) X(select(3, NULL, p, NULL, &(struct timeval){ 0, 2000 })) \
    X(select(3, NULL, NULL, p, &(struct timeval){ 0, 2000 })) X(pselect(3, p, NULL, NULL, &MOMENT, NULL)) \
    X(pselect(0, NULL, NULL, NULL, &MOMENT, p)) X(epoll_pwait(epoll, (void *)buf, 1, 2, p)) \
    X(nanosleep(p, NULL)) X(code(clock_nanosleep(CLOCK_MONOTONIC, 0, p, NULL))) \
    X(code(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, p, NULL))) X(thrd_sleep(p, NULL)) X(sigsuspend(p)) \
    X(sigwaitinfo(p, NULL)) X(sigtimedwait(p, NULL, &MOMENT)) X(sigtimedwait(&wanted, NULL, p)) \
    X(sigtimedwait(&wanted, p, &MOMENT)) X(fcntl(file, F_SETLK, p)) X(fcntl(file, F_SETLKW, p)) X(fcntl(file, F_GETLK, p)) \
    X(sendfile(pair[0], file, p, 1)) X(splice(file, p, ends[1], NULL, 1, 0)) X(vmsplice(ends[1], p, 1, 0)) \
    X(copy_file_range(file, p, file, NULL, 1, 0)) X(msgsnd(queue, p, 1, 0)) X(semop(set, p, 1)) \
    X(semtimedop(set, p, 1, &MOMENT)) X(semtimedop(set, &(struct sembuf){ 0, -1, 0 }, 1, p)) X(mq_open(p, O_RDONLY)) \
    X(mq_send(messages, p, 1, 0)) X(mq_timedreceive(messages, buf, sizeof buf, NULL, p)) \
    X(mq_timedsend(messages, "x", 1, 0, p)) X(syscall(SYS_read, file, p, 8L)) X(syscall(SYS_write, ends[1], p, 8L)) \
    X(syscall(SYS_nanosleep, p, NULL)) X(syscall(SYS_open, p, O_RDONLY)) X(syscall(SYS_futex, &file, 0, file, p)) \
    X(syscall(SYS_futex, p, 0, 1, &MOMENT)) X(syscall(SYS_futex, p, 1, 1)) X(pipe2(p, 0)) X(poll(p, 1, 2)) X(ppoll(p, 1, &MOMENT, NULL))

/* Calls that wait, and what ends the wait. */
#define WAITING(X) \
    X(read(ends[0], p, 8)) X(readv(ends[0], p, 1)) X(readv(ends[0], part_of(p), 1)) X(recv(pair[0], p, 8, 0)) \
    X(read(pair[0], p, 8)) X(recvfrom(pair[0], p, 8, 0, NULL, NULL)) \
    X(recvfrom(grams[0], p, 8, 0, (void *)&address, size())) X(recvfrom(grams[0], buf, 8, 0, p, size())) \
    X(recvfrom(grams[0], buf, 8, 0, (void *)&address, p)) X(recvmsg(pair[0], p, 0)) X(recvmsg(pair[0], message_of(p), 0)) \
    X(recvmmsg(grams[0], p, 1, 0, NULL)) X(recvmmsg(grams[0], &(struct mmsghdr){ .msg_hdr = *message_of(buf) }, 1, 0, p)) \
    X(accept(listener, p, size())) X(accept(listener, (void *)&address, p)) X(accept4(listener, p, size(), SOCK_CLOEXEC)) \
    X(ppoll(&(struct pollfd){ ends[0], POLLIN, 0 }, 1, NULL, p)) \
    X(epoll_wait(epoll, p, 1, 2000)) X(epoll_pwait(epoll, (void *)buf, 1, 2000, p)) \
    X(wait(p)) X(waitpid(-1, p, 0)) X(wait4(-1, NULL, 0, p)) X(waitid(P_ALL, 0, p, WEXITED)) \
    X(waitid(P_PID, (id_t)child_of_child, p, WEXITED)) X(msgrcv(queue, p, 4, 0, 0)) X(mq_receive(messages, p, sizeof buf, NULL)) \
    X(mq_receive(messages, buf, sizeof buf, p)) X(read(event, p, 8)) X(sigwaitinfo(&wanted, p)) \
    X(sigtimedwait(&wanted, p, &LONG)) X(nanosleep(&LONG, p)) X(code(clock_nanosleep(CLOCK_MONOTONIC, 0, &LONG, p))) \
    X(thrd_sleep(&LONG, p)) X(write(full[1], p, 8)) X(syscall(SYS_nanosleep, &LONG, p))

#define NAME(call) #call,
static const char *const NAMES[] = { AT_ONCE(NAME) WAITING(NAME) };
enum { CALLS = sizeof NAMES / sizeof *NAMES };
#define ONE(call) 1 +
enum { FIRST_WAITING = AT_ONCE(ONE) 0 };

static long make(int number, void *p)
{
    int here = 0;
#define CASE(call)                  \
    if (number == here++)           \
        return (long)(call);
    AT_ONCE(CASE) WAITING(CASE)
    return 0;
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
    if (messages == (mqd_t)-1 || queue < 0 || set < 0 || event < 0 || file < 0 || epoll < 0 || pipe(ends) || pipe(full)
        || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || socketpair(AF_UNIX, SOCK_DGRAM, 0, grams)
        || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4)
        || epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &readable) || pwrite(file, "12345678", 8, 0) != 8
        || pthread_sigmask(SIG_BLOCK, &wanted, NULL) || sigaction(SIGALRM, &action, NULL)
        || sigaction(SIGUSR1, &action, NULL)
        || fcntl(full[1], F_SETPIPE_SZ, 4096) < 0 || write(full[1], buf, 4096) != 4096)
        die("setup");
}

/* What the waits wait for: all of it. */
static void happen(pid_t to)
{
    struct { long kind; char text[4]; } message = { 1, "abc" };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (write(ends[1], "abc", 3) != 3 || write(pair[1], "abc", 3) != 3 || write(grams[1], "abc", 3) != 3
        || connect(fd, (struct sockaddr *)&address, sizeof address) || msgsnd(queue, &message, 4, 0)
        || mq_send(messages, "abc", 3, 7) || eventfd_write(event, 5) || read(full[0], buf, 4096) != 4096)
        /* Who waited for an earlier one of them has cleaned up meanwhile. */
        _exit(1);
    kill(to, SIGUSR1);
}

static const struct { const char *how; long page, back; } BAD[] = {
    { "no access", 1, 0 },
    { "its end out of reach", 1, 4 },
    { "only to be read", 2, 0 },
    { "nothing mapped", -1, 0 },
};
enum { KINDS = sizeof BAD / sizeof *BAD };
static char *memory;

static void *bad(unsigned kind)
{
    return BAD[kind].page < 0 ? (char *)8 : memory + BAD[kind].page * sysconf(_SC_PAGESIZE) - BAD[kind].back;
}

static void make_and_show(int number, unsigned kind, const char *when)
{
    errno = 0;
    long result = make(number, bad(kind));
    int error = errno;
    printf("%s, %s%s: %s\n", NAMES[number], BAD[kind].how, when,
           result == -1 ? strerror(error) : result < 0 ? "failure" : "success");
}

static int sleeps(int number) { return strstr(NAMES[number], "LONG, p") != NULL; }

/* A set that can be read, and holds nothing. */
static int waits_for_ever(int number, unsigned kind)
{
    return BAD[kind].page == 2 && (!strcmp(NAMES[number], "sigsuspend(p)") || !strncmp(NAMES[number], "sigwaitinfo(p", 13));
}

static void at_once(int number)
{
    setup();
    for (unsigned kind = 0; kind < KINDS; kind++)
        if (!waits_for_ever(number, kind))
            make_and_show(number, kind, "");
}

static void waiting(int number, unsigned kind, int later)
{
    pid_t me = getpid();
    struct timespec moment = { 0, 4000000 };
    setup();
    alarm(20);
    child_of_child = fork();
    if (child_of_child == 0) {
        if (later)
            nanosleep(&moment, NULL);
        happen(me);
        /* Sleeps end by a handler. */
        for (int i = 0; sleeps(number) && i < 1000 && getppid() == me; i++) {
            nanosleep(&moment, NULL);
            kill(me, SIGALRM);
        }
        _exit(0);
    }
    siginfo_t ended;
    if (!later && !sleeps(number) && waitid(P_PID, (id_t)child_of_child, &ended, WEXITED | WNOWAIT))
        die("waitid");
    make_and_show(number, kind, later ? ", later" : "");
    kill(child_of_child, SIGKILL);
}

/* Runs one of the above in a child. */
static void show(int number, unsigned kind, int later)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        if (number < FIRST_WAITING)
            at_once(number);
        else
            waiting(number, kind, later);
        fflush(stdout);
        msgctl(queue, IPC_RMID, NULL);
        semctl(set, 0, IPC_RMID);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            die("waitpid");
    if (WIFSIGNALED(status))
        printf("%s, %s%s: signal %d\n", NAMES[number], BAD[kind].how, later ? ", later" : "", WTERMSIG(status));
}

static void probe(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    memory = mmap(NULL, page * 3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + page, page, PROT_NONE) || mprotect(memory + 2 * page, page, PROT_READ))
        die("mmap");
    memset(memory, 0, page);
    for (int number = 0; number < FIRST_WAITING; number++)
        show(number, 0, 0);
    for (int number = FIRST_WAITING; number < CALLS; number++)
        for (unsigned kind = 0; kind < KINDS; kind++)
            for (int later = 0; later < 2; later++)
                show(number, kind, later);
}
