/* SPDX-License-Identifier: MIT */
/* devices.c - descriptors that are neither regular files nor pipes: /dev/zero, /proc, eventfd,
 * terminals. */
#define _GNU_SOURCE
#include "probe.h"

#include <pty.h>
#include <sys/eventfd.h>
#include <termios.h>

static char buf[70000];

static void zero(void)
{
    int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
    memset(buf, 1, sizeof buf);
    SHOW(read(fd, buf, sizeof buf));
    show_data("zeros", buf, sizeof buf);
    SHOW(pread(fd, buf, 100, 12345));
    SHOW(write(fd, buf, 100));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(fsync(fd));
    SHOW(close(fd));
}

static void proc(void)
{
    int fd = open("/proc/self/comm", O_RDWR | O_CLOEXEC);
    SHOW(write(fd, "renamed", 7));
    SHOW(lseek(fd, 0, SEEK_SET));
    long n = SHOW(read(fd, buf, 100));
    printf("comm: %.*s", (int)n, buf);
    SHOW(read(fd, buf, 100));
    SHOW(pread(fd, buf, 3, 2));
    SHOW(close(fd));
    fd = open("/proc/sys/kernel/ostype", O_RDONLY | O_CLOEXEC);
    n = SHOW(read(fd, buf, 3));
    n = SHOW(read(fd, buf, 100));
    printf("ostype: %.*s", (int)n, buf);
    SHOW(close(fd));
    fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    SHOW(pread(fd, buf, 100, 0));
    SHOW(close(fd));
}

static void events(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t value = 5;
    SHOW(read(fd, &value, 8));
    SHOW(write(fd, &value, 8));
    SHOW(write(fd, &value, 8));
    SHOW(read(fd, &value, 7));
    SHOW(read(fd, &value, 8));
    printf("value %" PRIu64 "\n", value);
    value = UINT64_MAX;
    SHOW(write(fd, &value, 8));
    SHOW(pread(fd, &value, 8, 0));
    SHOW(close(fd));
    fd = eventfd(3, EFD_CLOEXEC | EFD_SEMAPHORE);
    SHOW(read(fd, &value, 8));
    SHOW(read(fd, &value, 8));
    printf("value %" PRIu64 "\n", value);
    SHOW(close(fd));
}

static void terminal(void)
{
    int master, slave;
    struct termios mode;
    if (openpty(&master, &slave, NULL, NULL, NULL) || tcgetattr(slave, &mode)) {
        printf("no terminal\n");
        return;
    }
    mode.c_lflag &= ~(tcflag_t)ECHO;
    SHOW(tcsetattr(slave, TCSANOW, &mode));
    SHOW(write(master, "first\nsecond\nno end", 19));
    long n = SHOW(read(slave, buf, 100));
    printf("line: %.*s", (int)n, buf);
    n = SHOW(read(slave, buf, 3));
    n = SHOW(read(slave, buf, 100));
    printf("rest of the line: %.*s", (int)n, buf);
    SHOW(write(slave, "out\n", 4));
    /* The data may arrive in pieces. */
    SHOW(read_full(master, buf, 5));
    printf("echoed: %.5s", buf);
    SHOW(pread(slave, buf, 10, 0));
    SHOW(close(slave));
    SHOW(read(master, buf, 100));
    SHOW(close(master));
}

static void probe(void)
{
    zero();
    proc();
    events();
    terminal();
}
