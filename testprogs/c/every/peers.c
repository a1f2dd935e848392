/* SPDX-License-Identifier: MIT */
/* peers.c - many tasks wait for peers, with each kind of wait in turn, while another task looks up
 * a name and writes a file. Then the peers, which are tasks of the same program, arrive. */
#define _GNU_SOURCE
#include <netdb.h>
#include <pty.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <termios.h>

#include "blocking_task.h"

enum { PAIRS = 40, MORE_THAN_FITS = 200000 };

struct pair {
    int at, ends[2];
    pthread_t thread;
    char name[32];
};

static struct pair pairs[PAIRS];
static int queue, set, locked[2], waiting;
static char large[MORE_THAN_FITS];

/* ---- The waits, and the peers that end them ------------------------------------------------- */

static void write_all(int fd)
{
    write_full(fd, large, sizeof large);
    close(fd);
}

static void read_all(int fd, const char *what)
{
    static __thread char buf[4096];
    size_t all = 0;
    ssize_t n;
    while (all < sizeof large && (n = read(fd, buf, sizeof buf)) > 0)
        all += (size_t)n;
    if (all != sizeof large)
        die("%s: %zu bytes", what, all);
}

static int opened(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        die("%s", path);
    return fd;
}

static void open_writer(struct pair *p) { write_all(opened(p->name, O_WRONLY)); }
static void open_reader(struct pair *p)
{
    int fd = opened(p->name, O_RDONLY);
    read_all(fd, p->name);
    close(fd);
}

static void fill_terminal(struct pair *p) { write_full(p->ends[0], large, sizeof large); }
static void empty_terminal(struct pair *p) { read_all(p->ends[1], "terminal"); }

static void lock_flock(struct pair *p)
{
    int fd = opened("lock", O_RDWR);
    (void)p;
    if (flock(fd, LOCK_EX) || flock(fd, LOCK_UN) || close(fd))
        die("flock");
}
static void unlock_flock(struct pair *p)
{
    if (p->at == 0 && flock(locked[0], LOCK_UN))
        die("unlock");
}

static void lock_range(struct pair *p)
{
    struct flock range = { .l_type = F_WRLCK };
    int fd = opened("range", O_RDWR);
    (void)p;
    if (fcntl(fd, F_OFD_SETLKW, &range) || close(fd))
        die("F_OFD_SETLKW");
}
static void unlock_range(struct pair *p)
{
    struct flock range = { .l_type = F_UNLCK };
    if (p->at == 0 && fcntl(locked[1], F_OFD_SETLK, &range))
        die("F_OFD_SETLK");
}

struct message {
    long kind;
    char text[8];
};

static void receive_message(struct pair *p)
{
    struct message message;
    if (msgrcv(queue, &message, sizeof message.text, p->at + 1, 0) < 0)
        die("msgrcv");
}
static void send_message(struct pair *p)
{
    struct message message = { p->at + 1, "text" };
    if (msgsnd(queue, &message, sizeof message.text, 0))
        die("msgsnd");
}

static void take(struct pair *p)
{
    struct sembuf one = { (unsigned short)p->at, -1, 0 };
    if (semop(set, &one, 1))
        die("semop");
}
static void give(struct pair *p)
{
    struct sembuf one = { (unsigned short)p->at, 1, 0 };
    if (semop(set, &one, 1))
        die("semop");
}

static void peek_all(struct pair *p)
{
    char buf[8];
    if (recv(p->ends[0], buf, sizeof buf, MSG_PEEK | MSG_WAITALL) != sizeof buf)
        die("recv");
}
static void send_eight(struct pair *p)
{
    if (send(p->ends[1], "12345678", 8, 0) != 8)
        die("send");
}

static void *read_one(void *arg)
{
    char byte;
    return read(((struct pair *)arg)->ends[0], &byte, 1) == 1 ? arg : NULL;
}
static void join_thread(struct pair *p)
{
    check(pthread_create(&p->thread, NULL, read_one, p), "pthread_create");
    void *result;
    check(pthread_join(p->thread, &result), "pthread_join");
    if (result != p)
        die("the thread");
}
static void write_one(struct pair *p)
{
    if (write(p->ends[1], "x", 1) != 1)
        die("write");
}

static void await_child(struct pair *p)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        char byte;
        _exit(read(p->ends[0], &byte, 1) == 1 ? 7 : 1);
    }
    siginfo_t info;
    if (waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED | WNOWAIT) ||
        waitpid(child, &status, 0) != child)
        die("wait");
    if (status != 7 << 8)
        die("the child: %x", status);
}

static void accept_one(struct pair *p)
{
    int fd = accept4(p->ends[0], NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        die("accept4");
    close(fd);
}
static void connect_one(struct pair *p)
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || getsockname(p->ends[0], (struct sockaddr *)&address, &len) ||
        connect(fd, (struct sockaddr *)&address, len))
        die("connect");
    close(fd);
}

/* ---- Setup ---------------------------------------------------------------------------------- */

static void make_nothing(struct pair *p) { (void)p; }
static void make_fifo(struct pair *p)
{
    if (mkfifo(p->name, 0600))
        die("mkfifo");
}
static void make_terminal(struct pair *p)
{
    struct termios raw;
    if (openpty(&p->ends[0], &p->ends[1], NULL, NULL, NULL) || tcgetattr(p->ends[1], &raw))
        die("openpty");
    cfmakeraw(&raw);
    if (tcsetattr(p->ends[1], TCSANOW, &raw))
        die("tcsetattr");
}
static void make_sockets(struct pair *p) { make_pair(UNIX_STREAM, p->ends); }
static void make_pipe(struct pair *p)
{
    if (pipe2(p->ends, O_CLOEXEC))
        die("pipe2");
}
static void make_listener(struct pair *p)
{
    struct sockaddr_in address;
    p->ends[0] = bound(SOCK_STREAM, &address);
    p->ends[1] = dup(p->ends[0]);
    if (listen(p->ends[0], 1))
        die("listen");
}
static void close_ends(struct pair *p) { close_pair(p->ends); }
static void unlink_fifo(struct pair *p) { unlink(p->name); }

static const struct wait_case {
    const char *name;
    void (*make)(struct pair *), (*wait)(struct pair *), (*come)(struct pair *),
        (*end)(struct pair *);
} cases[] = {
    { "opens of FIFOs to read", make_fifo, open_reader, open_writer, unlink_fifo },
    { "opens of FIFOs to write, and writes", make_fifo, open_writer, open_reader, unlink_fifo },
    { "writes to terminals", make_terminal, fill_terminal, empty_terminal, close_ends },
    { "reads of terminals", make_terminal, empty_terminal, fill_terminal, close_ends },
    { "flock", make_nothing, lock_flock, unlock_flock, make_nothing },
    { "open file description locks", make_nothing, lock_range, unlock_range, make_nothing },
    { "message queue", make_nothing, receive_message, send_message, make_nothing },
    { "semaphore set", make_nothing, take, give, make_nothing },
    { "recv of all, peeked", make_sockets, peek_all, send_eight, close_ends },
    { "pthread_join", make_pipe, join_thread, write_one, close_ends },
    { "waitid", make_pipe, await_child, write_one, close_ends },
    { "accept", make_listener, accept_one, connect_one, close_ends },
};

/* ---- One case ------------------------------------------------------------------------------- */

static const struct wait_case *running;

static void *wait_task(void *pair)
{
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    running->wait(pair);
    return NULL;
}

static void *come_task(void *pair)
{
    running->come(pair);
    return NULL;
}

/* Calls of other tasks must not wait for the waiters. */
static void bystander(void)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;
    check(getaddrinfo("127.0.0.1", NULL, &hints, &found), "getaddrinfo");
    freeaddrinfo(found);
    if (!getservbyname("tcpmux", "tcp"))
        errno = 0; /* /etc/services may be missing */
    int fd = opened("bystander", O_RDWR | O_CREAT);
    if (write(fd, "b", 1) != 1 || fsync(fd) || ftruncate(fd, 0) || close(fd) || unlink("bystander"))
        die("bystander");
}

static void run_case(const struct wait_case *one)
{
    task_t waiters[PAIRS], peers[PAIRS];
    struct flock range = { .l_type = F_WRLCK };
    running = one;
    waiting = 0;
    if (flock(locked[0], LOCK_EX) || fcntl(locked[1], F_OFD_SETLK, &range))
        die("lock");
    for (int i = 0; i < PAIRS; i++) {
        pairs[i].at = i;
        snprintf(pairs[i].name, sizeof pairs[i].name, "fifo%d", i);
        one->make(&pairs[i]);
        waiters[i] = task_spawn(wait_task, &pairs[i]);
    }
    while (__atomic_load_n(&waiting, __ATOMIC_SEQ_CST) < PAIRS)
        task_yield();
    for (int i = 0; i < 5; i++)
        bystander();
    for (int i = 0; i < PAIRS; i++)
        peers[i] = task_spawn(come_task, &pairs[i]);
    for (int i = 0; i < PAIRS; i++) {
        task_join(peers[i]);
        task_join(waiters[i]);
        one->end(&pairs[i]);
    }
    printf("%s: all came through\n", one->name);
}

static void probe(void)
{
    queue = msgget(IPC_PRIVATE, 0600);
    set = semget(IPC_PRIVATE, PAIRS, 0600);
    locked[0] = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    locked[1] = open("range", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (queue < 0 || set < 0 || locked[0] < 0 || locked[1] < 0)
        die("what they wait for");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_case(&cases[i]);
    msgctl(queue, IPC_RMID, NULL);
    semctl(set, 0, IPC_RMID);
}
