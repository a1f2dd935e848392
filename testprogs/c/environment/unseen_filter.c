/* SPDX-License-Identifier: MIT */
/* unseen_filter.c - installs a seccomp filter during the run, with an instruction that no hook
 * sees, or, with `seen`, through syscall(). From then on the kernel makes one kind of system call,
 * which the program does not make itself, return an error; with KILL it ends the process. Every
 * task must still get its data. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "raw_call.h"
#include "task.h"

enum { PAIRS = 8, ROUNDS = 200, FILTER_AT = 50 };

static const struct {
    const char *name;
    unsigned calls[3];
} kinds[] = {
    { "enter", { SYS_io_uring_enter, SYS_io_uring_enter, SYS_io_uring_enter } },
    { "uring", { SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup } },
    { "submit", { SYS_io_submit, SYS_io_submit, SYS_io_submit } },
    { "getevents", { SYS_io_getevents, SYS_io_pgetevents, SYS_io_pgetevents } },
    { "epoll", { SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait } },
};
static const struct {
    const char *name;
    unsigned error;
} errors[] = {
    { "EPERM", EPERM }, { "ENOMEM", ENOMEM }, { "EBADF", EBADF },   { "EFAULT", EFAULT },
    { "ENXIO", ENXIO }, { "ENOSYS", ENOSYS }, { "EAGAIN", EAGAIN }, { "KILL", 0 },
};

static const unsigned *calls;
static unsigned action;
static int is_seen;
static int to_late[2], to_socket[2];

static void install(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[0], 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[1], 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[2], 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { sizeof code / sizeof *code, code };
    if (raw_call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0))
        die("PR_SET_NO_NEW_PRIVS");
    if (is_seen) {
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter)) {
            perror("seccomp");
            exit(77);
        }
        return;
    }
    long result =
        raw_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, (long)&filter, 0);
    if (result) {
        fprintf(stderr, "seccomp: %s\n", strerror((int)-result));
        exit(77);
    }
}

struct pair {
    int there[2], back[2];
    int first;
};

static void *ping(void *arg)
{
    struct pair *pair = arg;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned char byte = (unsigned char)i;
        if (pair->first && i == FILTER_AT)
            install();
        if (write(pair->there[1], &byte, 1) != 1 || read(pair->back[0], &byte, 1) != 1)
            die("ping");
        if (byte != (unsigned char)(i + 1))
            wrong("a byte was lost or came twice");
    }
    return NULL;
}

static void *pong(void *arg)
{
    struct pair *pair = arg;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned char byte;
        if (read(pair->there[0], &byte, 1) != 1)
            die("pong");
        byte++;
        if (write(pair->back[1], &byte, 1) != 1)
            die("pong");
    }
    return NULL;
}

/* Waits from before the filter is installed until after it. */
static void *late_reader(void *arg)
{
    char byte;
    if (read(to_late[0], &byte, 1) != 1 || byte != 'l')
        die("late reader");
    return arg;
}

static void *late_receiver(void *arg)
{
    char byte;
    if (recv(to_socket[0], &byte, 1, 0) != 1 || byte != 's')
        die("late receiver");
    return arg;
}

static void *late_poller(void *arg)
{
    struct pollfd polled = { to_late[0], POLLHUP, 0 };
    if (poll(&polled, 1, 60000) != 1)
        die("late poller");
    return arg;
}

/* Uses files before, during and after the installation of the filter. */
static void *filer(void *arg)
{
    char name[] = "file-X", block[4096], found[4096];
    name[5] = (char)('a' + (long)arg);
    memset(block, name[5], sizeof block);
    for (int i = 0; i < ROUNDS / 10; i++) {
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || pwrite(fd, block, sizeof block, i * 4096) != sizeof block ||
            (i % 5 == 0 && fsync(fd)))
            die("%s", name);
        if (pread(fd, found, sizeof found, i * 4096) != sizeof found ||
            memcmp(found, block, sizeof block))
            wrong("another file's bytes");
        if (close(fd))
            die("close");
    }
    return NULL;
}

static void *run(void *arg)
{
    static struct pair pairs[PAIRS];
    task_t tasks[2 * PAIRS], files[4], late[3];
    if (pipe(to_late) || socketpair(AF_UNIX, SOCK_STREAM, 0, to_socket))
        die("pipe");
    late[0] = task_spawn(late_reader, NULL);
    late[1] = task_spawn(late_receiver, NULL);
    late[2] = task_spawn(late_poller, NULL);
    for (int i = 0; i < PAIRS; i++) {
        if (pipe(pairs[i].there) || pipe(pairs[i].back))
            die("pipe");
        pairs[i].first = i == 0;
        tasks[2 * i] = task_spawn(ping, &pairs[i]);
        tasks[2 * i + 1] = task_spawn(pong, &pairs[i]);
    }
    for (long i = 0; i < 4; i++)
        files[i] = task_spawn(filer, (void *)i);
    for (int i = 0; i < 2 * PAIRS; i++)
        task_join(tasks[i]);
    for (int i = 0; i < 4; i++)
        task_join(files[i]);
    if (write(to_late[1], "l", 1) != 1 || write(to_socket[1], "s", 1) != 1 || close(to_late[1]))
        die("late");
    for (int i = 0; i < 3; i++)
        task_join(late[i]);
    puts("every task got its bytes");
    return arg;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG, { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, TASK_SHORT, options, NULL)) != -1)
        task_option(option, TASK_HELP);
    if (optind + 2 > argc)
        wrong("usage: unseenfilter CALL ERROR [seen]");
    is_seen = optind + 2 < argc && !strcmp(argv[optind + 2], "seen");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, argv[optind]))
            calls = kinds[i].calls;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, argv[optind + 1]))
            action =
                errors[i].error ? SECCOMP_RET_ERRNO | errors[i].error : SECCOMP_RET_KILL_PROCESS;
    if (!calls || !action)
        wrong("no such call or error");
    task_run(run, NULL);
    return 0;
}
