/* SPDX-License-Identifier: MIT */
/* restart.c - a handler runs while a call waits: the call fails with EINTR, or is restarted, or
 * the handler jumps out of it. */
#define _GNU_SOURCE
#include "background_task.h"

#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { ENOUGH = 5 };

static volatile sig_atomic_t ticks;
/* The handler calls this once it has run often enough; then the waiting call can complete. */
static void (*volatile help)(void);
static sigjmp_buf *volatile back;
static int ends[2], pair[2], queue;
static pid_t child;

static void on_tick(int signal)
{
    int error = errno;
    ticks++;
    if (ticks == ENOUGH && help)
        help();
    errno = error;
    if (back)
        siglongjmp(*back, signal);
}

static void tick(long every_us, int flags)
{
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = flags };
    struct itimerval timer = { { 0, every_us }, { 0, every_us } };
    ticks = 0;
    if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &timer, NULL))
        die("timer");
}

/* ---- The calls, and how each can complete --------------------------------------------------- */

static char byte;

static long read_pipe(void) { return read(ends[0], &byte, 1); }

static void fill_pipe(void)
{
    if (write(ends[1], "p", 1) != 1)
        abort();
}

static long read_socket(void) { return read(pair[0], &byte, 1); }

static void fill_socket(void)
{
    if (write(pair[1], "s", 1) != 1)
        abort();
}

static volatile int other_end = -1;

static long open_fifo(void)
{
    int fd = open("fifo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int error = errno;
    close(fd);
    if (other_end >= 0)
        close(other_end);
    other_end = -1;
    errno = error;
    return 0;
}

/* The end stays open, because a restarted open must find it. */
static void open_other_end(void)
{
    other_end = open("fifo", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (other_end < 0)
        abort();
}

static long receive_message(void)
{
    struct {
        long type;
        char text[8];
    } message;
    return msgrcv(queue, &message, sizeof message.text, 0, 0);
}

static void send_message(void)
{
    struct {
        long type;
        char text[8];
    } message = { 1, "message" };
    if (msgsnd(queue, &message, sizeof message.text, 0))
        abort();
}

static long wait_for_child(void)
{
    int status;
    pid_t ended = waitpid(child, &status, 0);
    return ended < 0 ? ended : WTERMSIG(status);
}

static long wait_for_any(void)
{
    int status;
    pid_t ended = wait(&status);
    return ended < 0 ? ended : WTERMSIG(status);
}

static void end_child(void)
{
    if (kill(child, SIGTERM))
        abort();
}

static void start_child(void)
{
    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        for (;;)
            pause();
}

/* ---- Futexes; those of futex2 are restarted even if they have a timeout --------------------- */

/* The headers of glibc 2.31 have none of these. */
enum { FUTEX_WAITV_NUMBER = 449, FUTEX_WAIT_NUMBER = 455, U32_WORD = 2 };
static volatile uint32_t word;

/* A restarted wait finds the value changed. */
static void change_word(void)
{
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void reset_word(void) { word = 0; }

static long wait_shared(void) { return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0); }
static long wait_private(void)
{
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static const struct timespec LONG_TIME = { 20, 0 };

static long wait_shared_for_a_time(void)
{
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &LONG_TIME, NULL, 0);
}

static long wait_private_for_a_time(void)
{
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &LONG_TIME, NULL, 0);
}

static struct timespec late(void)
{
    struct timespec late;
    clock_gettime(CLOCK_MONOTONIC, &late);
    late.tv_sec += 20;
    return late;
}

static long wait_until_of_futex2(void)
{
    struct timespec until = late();
    return syscall(FUTEX_WAIT_NUMBER, &word, 0, ~0U, U32_WORD, &until, CLOCK_MONOTONIC);
}

static long wait_until_for_any(void)
{
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } one = { 0, (uintptr_t)&word, U32_WORD, 0 };
    struct timespec until = late();
    return syscall(FUTEX_WAITV_NUMBER, &one, 1, 0, &until, CLOCK_MONOTONIC);
}

/* ---- Semaphores: a wait with a timeout is never restarted ------------------------------------ */

static sem_t semaphore;

static void reset_semaphore(void)
{
    if (sem_init(&semaphore, 0, 0))
        die("sem_init");
}

static void post(void)
{
    if (sem_post(&semaphore))
        abort();
}

static long wait_for_post(void) { return sem_wait(&semaphore); }

static long wait_for_post_for_a_time(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    return sem_timedwait(&semaphore, &until);
}

static const struct waits {
    const char *name;
    long (*call)(void);
    void (*help)(void);
    void (*before)(void);
    int never_restarts;
} waits[] = {
    { "read a pipe", read_pipe, fill_pipe, NULL, 0 },
    { "read a socket", read_socket, fill_socket, NULL, 0 },
    { "open a FIFO", open_fifo, open_other_end, NULL, 0 },
    { "msgrcv", receive_message, send_message, NULL, 1 },
    { "waitpid", wait_for_child, end_child, start_child, 0 },
    { "wait", wait_for_any, end_child, start_child, 0 },
    { "futex", wait_shared, change_word, reset_word, 0 },
    { "private futex", wait_private, change_word, reset_word, 0 },
    { "sem_wait", wait_for_post, post, reset_semaphore, 0 },
    { "sem_timedwait", wait_for_post_for_a_time, post, reset_semaphore, 1 },
    { "futex, timeout", wait_shared_for_a_time, change_word, reset_word, 1 },
    { "private futex, timeout", wait_private_for_a_time, change_word, reset_word, 1 },
    { "futex_wait, timeout", wait_until_of_futex2, change_word, reset_word, 0 },
    { "futex_waitv, timeout", wait_until_for_any, change_word, reset_word, 0 },
};

static void show(const char *name, long result, int error)
{
    if (result < 0)
        printf("%s: %s\n", name, strerror(error));
    else
        printf("%s: %ld\n", name, result);
}

static void try(const struct waits *w)
{
    if (w->before)
        w->before();
    /* Without SA_RESTART, the call fails with EINTR. */
    help = NULL;
    tick(5000, 0);
    errno = 0;
    long result = w->call();
    show(w->name, result, errno);
    if (result < 0 && errno == ENOSYS)
        return;
    /* With SA_RESTART, the call does not end before the handler has run ENOUGH times. */
    if (!w->never_restarts) {
        help = w->help;
        tick(2000, SA_RESTART);
        result = w->call();
        int error = errno;
        printf("the handler ran often: %d, ", ticks >= ENOUGH);
        show(w->name, result, error);
        if (w->before)
            w->before();
    }
    /* The handler jumps out of the call; later events must go to the next call. */
    help = NULL;
    for (volatile int i = 0; i < 3; i++) {
        sigjmp_buf here;
        tick(0, 0);
        if (sigsetjmp(here, 1) == 0) {
            back = &here;
            tick(3000, SA_RESTART);
            w->call();
            wrong("%s came back", w->name);
        }
        back = NULL;
        tick(0, 0);
    }
    printf("jumped out of %s\n", w->name);
    if (w->call != open_fifo) {
        w->help();
        errno = 0;
        result = w->call();
        show(w->name, result, errno);
    }
}

/* ---- A write that a handler interrupts returns the size it has written ---------------------- */

static void partial_write(void)
{
    static char block[1 << 20];
    int full[2];
    if (pipe2(full, O_CLOEXEC))
        die("pipe2");
    help = NULL;
    tick(5000, SA_RESTART);
    SHOW(write(full[1], block, sizeof block));
    tick(0, 0);
    close(full[0]);
    close(full[1]);
}

/* ---- Real-time signals keep their order ----------------------------------------------------- */

static volatile int order[64];
static volatile sig_atomic_t come;

static void on_queued(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    order[come++] = info->si_value.sival_int;
}

static void queued_in_order(void)
{
    struct sigaction action = { .sa_sigaction = on_queued, .sa_flags = SA_SIGINFO };
    int done[2];
    if (sigaction(SIGRTMIN + 3, &action, NULL) || pipe2(done, O_CLOEXEC))
        die("setup");
    pid_t parent = getpid(), sender = fork();
    if (sender == 0) {
        for (int i = 0; i < 40; i++)
            if (sigqueue(parent, SIGRTMIN + 3, (union sigval){ .sival_int = i }))
                abort();
        _exit(0);
    }
    close(done[1]);
    /* Reads to the end of file, which comes when the child has exited and its copy is closed. */
    while (read(done[0], &byte, 1) != 0 || come < 40)
        ;
    int right = 0;
    for (int i = 0; i < 40; i++)
        right += order[i] == i;
    printf("%d of %d in order\n", right, (int)come);
    close(done[0]);
    while (waitpid(sender, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void probe(void)
{
    background_begin();
    queue = msgget(IPC_PRIVATE, 0600);
    if (queue < 0 || pipe2(ends, O_CLOEXEC) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) || mkfifo("fifo", 0600))
        die("setup");
    for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++)
        try(&waits[i]);
    partial_write();
    queued_in_order();
    SHOW(msgctl(queue, IPC_RMID, NULL));
    background_end();
}
