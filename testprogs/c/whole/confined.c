/* SPDX-License-Identifier: MIT */
/* confined.c - programs that confine themselves with seccomp after they have worked for a while. A
 * filter that allows the calls they need without the shim must still suffice, and a filter that
 * does not concern their calls must change nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BY_PRCTL, BY_NUMBER, BY_SECCOMP, STRICTLY, WAYS };

static int ends[2];
static volatile sig_atomic_t alarms;

static void count(int signal)
{
    (void)signal;
    alarms++;
}

static int read_ready(void)
{
    char byte;
    return read(ends[0], &byte, 1) == 1;
}

static int read_waits(void)
{
    char byte;
    return read(ends[0], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'd';
}

static int writes(void) { return write(ends[1], "x", 1) == 1; }

static int polls(void)
{
    struct pollfd polled[2] = { { ends[0], POLLIN, 0 }, { ends[1], POLLOUT, 0 } };
    return poll(polled, 2, -1) == 2;
}

/* Long enough for everything that the shim leaves to the kernel when the filter is installed: a
 * sleep that the kernel interrupts continues as restart_syscall, which no filter here allows. */
static int sleeps(void)
{
    struct timespec time = { 0, 100000000 };
    return nanosleep(&time, NULL) == 0;
}

static int opens(void)
{
    struct stat about;
    int fd = open("/dev/null", O_RDONLY);
    return fd >= 0 && fstat(fd, &about) == 0 && close(fd) == 0;
}

static int locks(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    return pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0;
}

static int is_interrupted(void)
{
    char byte[2];
    if (read(ends[0], byte, 1) != 1)
        return 0;
    return read(ends[0], byte, 2) < 0 && errno == EINTR && alarms > 0;
}

static int uses_stdio(void) { return printf("printed\n") > 0 && fflush(stdout) == 0; }

static const struct {
    const char *name;
    int (*act)(void);
    int strictly; /* also tested in strict mode, without a filter */
    int allowed[6];
} rows[] = {
    { "read what is there", read_ready, 1, { SYS_read } },
    { "read what comes", read_waits, 1, { SYS_read } },
    { "write", writes, 1, { SYS_write } },
#ifdef SYS_poll
    { "poll", polls, 0, { SYS_poll } },
#else
    { "poll", polls, 0, { SYS_ppoll } },
#endif
    { "nanosleep", sleeps, 0, { SYS_nanosleep, SYS_clock_nanosleep } },
    { "open, fstat, close", opens, 0, { SYS_openat, SYS_newfstatat, SYS_fstat, SYS_close } },
    { "a mutex", locks, 1, { SYS_read } },
    { "a handler", is_interrupted, 0, { SYS_read, SYS_rt_sigreturn } },
    { "printf", uses_stdio, 0, { SYS_write, SYS_newfstatat, SYS_fstat } },
};

static int confine(int way, const int *allowed, unsigned otherwise)
{
    struct sock_filter code[32];
    unsigned short n = 0;
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = -2; i < 6; i++) {
        int call = i == -2      ? SYS_exit
                   : i == -1    ? SYS_exit_group
                   : allowed[i] ? allowed[i]
                                : allowed[0];
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    struct sock_fprog filter = { n, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    switch (way) {
    case BY_PRCTL: return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
    case BY_NUMBER:
        return (int)syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
    case BY_SECCOMP: return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
    default: return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    }
}

/* Runs one child that has read, looked up a user and opened a file before. */
static void try_row(size_t row, int way)
{
    int go[2];
    if (pipe(ends) || pipe(go) || write(ends[1], "abc", 3) != 3)
        exit(1);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char bytes[2];
        struct sigaction action = { .sa_handler = count };
        sigaction(SIGALRM, &action, NULL);
        int ok = read(ends[0], bytes, 2) == 2 && getpwnam("root") && opens();
        if (rows[row].act == is_interrupted) {
            struct itimerspec soon = { { 0, 5000000 }, { 0, 5000000 } };
            timer_t timer;
            struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
            ok &= timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
                  timer_settime(timer, 0, &soon, NULL) == 0;
        }
        if (!ok || write(go[1], "g", 1) != 1 ||
            confine(way, rows[row].allowed, SECCOMP_RET_KILL_PROCESS))
            _exit(2);
        syscall(SYS_exit, rows[row].act() ? 0 : 3);
    }
    char byte;
    close(go[1]);
    if (read(go[0], &byte, 1) == 1 && rows[row].act == read_waits && write(ends[1], "d", 1) != 1)
        exit(1);
    int status;
    waitpid(child, &status, 0);
    printf("%s, %d: %s\n", rows[row].name, way,
           WIFSIGNALED(status)   ? "killed"
           : WEXITSTATUS(status) ? "wrong"
                                 : "right");
    close(ends[0]);
    close(ends[1]);
    close(go[0]);
}

/* A normal exit, with all exit handlers. */
static void try_exit(void)
{
    static const int allowed[6] = { SYS_write };
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (confine(BY_PRCTL, allowed, SECCOMP_RET_KILL_PROCESS))
            _exit(2);
        exit(4);
    }
    int status;
    waitpid(child, &status, 0);
    printf("exit: %s\n", WIFSIGNALED(status)        ? "killed"
                         : WEXITSTATUS(status) == 4 ? "right"
                                                    : "wrong");
}

int main(void)
{
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++)
        for (int way = 0; way < WAYS; way++)
            if (way != STRICTLY || rows[row].strictly)
                try_row(row, way);
    try_exit();
    return 0;
}
