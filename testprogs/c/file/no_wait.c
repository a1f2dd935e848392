/* SPDX-License-Identifier: MIT */
/* no_wait.c - reads that must not wait for reasons other than O_NONBLOCK, and transfers of no
 * bytes. */
#define _GNU_SOURCE
#include "probe.h"

#include <pty.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

static char buf[100];

/* Another task that can run, so that no task is alone. */
static volatile int stop;

static void *turn(void *arg)
{
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
        task_yield();
    return arg;
}

static void by_fionbio(void)
{
    int ends[2], on = 1, off = 0;
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    puts("FIONBIO");
    /* These calls let the shim learn about the descriptor first. */
    SHOW(write(ends[1], "x", 1));
    SHOW(read(ends[0], buf, 1));
    SHOW(ioctl(ends[0], FIONBIO, &on));
    SHOW(read(ends[0], buf, 10));
    SHOW(write(ends[1], "abc", 3));
    SHOW(read(ends[0], buf, 10));
    SHOW(read(ends[0], buf, 10));
    printf("O_NONBLOCK: %d\n", (fcntl(ends[0], F_GETFL) & O_NONBLOCK) != 0);
    SHOW(ioctl(ends[0], FIONBIO, &off));
    printf("O_NONBLOCK: %d\n", (fcntl(ends[0], F_GETFL) & O_NONBLOCK) != 0);
    /* Fills the pipe; then a write that must not wait reports EAGAIN. */
    SHOW(ioctl(ends[1], FIONBIO, &on));
    static char page[4096];
    while (write(ends[1], page, sizeof page) > 0)
        ;
    SHOW(write(ends[1], page, sizeof page));
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
}

static void by_timeout(int type)
{
    int ends[2];
    struct timeval little = { 0, 20000 };
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends))
        die("socketpair");
    printf("SO_RCVTIMEO, type %d\n", type);
    SHOW(write(ends[1], "x", 1));
    SHOW(read(ends[0], buf, 10));
    SHOW(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little));
    SHOW(read(ends[0], buf, 10));
    SHOW(read(ends[0], buf, 10));
    SHOW(write(ends[1], "abc", 3));
    SHOW(read(ends[0], buf, 10));
    SHOW(setsockopt(ends[1], SOL_SOCKET, SO_SNDTIMEO, &little, sizeof little));
    static char page[1024];
    while (write(ends[1], page, sizeof page) > 0)
        ;
    SHOW(write(ends[1], page, sizeof page));
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
}

static void by_terminal(void)
{
    int master, slave;
    struct termios mode;
    if (openpty(&master, &slave, NULL, NULL, NULL) || tcgetattr(slave, &mode)) {
        printf("no terminal\n");
        return;
    }
    puts("VMIN=0 VTIME=0");
    cfmakeraw(&mode);
    mode.c_cc[VMIN] = 0;
    mode.c_cc[VTIME] = 0;
    SHOW(tcsetattr(slave, TCSANOW, &mode));
    SHOW(read(slave, buf, 10));
    SHOW(read(slave, buf, 0));
    SHOW(write(master, "typed", 5));
    /* Repeats until the data has arrived, because a kernel thread transports it. */
    ssize_t n = 0;
    for (ssize_t more; n < 5; n += more)
        if ((more = read(slave, buf, 10)) < 0)
            die("terminal");
        else if (more == 0)
            task_yield();
    printf("came: %zd\n", n);
    SHOW(read(slave, buf, 10));
    mode.c_cc[VTIME] = 1;
    SHOW(tcsetattr(slave, TCSANOW, &mode));
    SHOW(read(slave, buf, 10));
    SHOW(close(slave));
    SHOW(close(master));
}

static void no_bytes(void)
{
    int ends[2], fd;
    struct iovec none = { buf, 0 };
    char *nowhere = NULL;
    puts("no bytes");
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends))
        die("socketpair");
    SHOW(write(ends[0], "", 0));
    SHOW(write(ends[0], "second", 6));
    SHOW(read(ends[1], buf, 10));
    SHOW(read(ends[1], buf, 10));
    /* The kernel does not send this message. */
    SHOW(writev(ends[0], &none, 1));
    SHOW(write(ends[0], "third", 5));
    SHOW(read(ends[1], buf, 10));
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
    fd = eventfd(1, EFD_CLOEXEC);
    SHOW(read(fd, buf, 0));
    SHOW(write(fd, buf, 0));
    SHOW(readv(fd, &none, 1));
    SHOW(close(fd));
    fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SHOW(read(fd, buf, 0));
    SHOW(pread(fd, buf, 0, 0));
    SHOW(readv(fd, &none, 1));
    SHOW(close(fd));
    fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    SHOW(read(fd, nowhere, 0));
    SHOW(write(fd, nowhere, 0));
    SHOW(pread(fd, buf, 0, -1));
    SHOW(pwrite(fd, buf, 0, 100));
    SHOW(readv(fd, &none, 1));
    SHOW(writev(fd, &none, 0));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(close(fd));
    SHOW(read(fd, buf, 0));
    fd = open("file", O_WRONLY | O_CLOEXEC);
    SHOW(read(fd, buf, 0));
    SHOW(close(fd));
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    SHOW(read(ends[0], buf, 0));
    SHOW(write(ends[1], buf, 0));
    SHOW(read(ends[1], buf, 0));
    SHOW(write(ends[0], buf, 0));
    SHOW(close(ends[0]));
    SHOW(close(ends[1]));
}

static void probe(void)
{
    task_t other = task_spawn(turn, NULL);
    by_fionbio();
    by_timeout(SOCK_STREAM);
    by_timeout(SOCK_DGRAM);
    by_terminal();
    no_bytes();
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    task_join(other);
}
