/* SPDX-License-Identifier: MIT */
/* huge_counts.c - calls that request more than 2 GiB wait like others, and transfer no more than
 * the kernel does. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define HUGE_SIZE (3ul << 30)

static char *memory;
/* Sizes that no object can have. They are volatile because the compiler would warn about constants.
 */
static volatile size_t all = SIZE_MAX, negative = (size_t)-4096, beyond = (size_t)1 << 62;

static long read_it(int fd) { return read(fd, memory, HUGE_SIZE); }
static long receive(int fd) { return recv(fd, memory, HUGE_SIZE, 0); }

static long read_parts(int fd)
{
    struct iovec parts[] = { { memory, HUGE_SIZE / 2 }, { memory + HUGE_SIZE / 2, HUGE_SIZE / 2 } };
    return readv(fd, parts, 2);
}

static long receive_message(int fd)
{
    struct iovec parts[] = { { memory, HUGE_SIZE / 2 }, { memory + HUGE_SIZE / 2, HUGE_SIZE / 2 } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    return recvmsg(fd, &message, 0);
}

static int ends[2];
static long (*call)(int);
static long result;

static void *reader(void *arg)
{
    result = call(ends[0]);
    return arg;
}

/* If the call blocked its thread, its peer would never write. */
static void wait_in(const char *what, long (*which)(int))
{
    call = which;
    task_t t = task_spawn(reader, NULL);
    for (int i = 0; i < 3; i++)
        task_yield();
    if (write(ends[1], "x", 1) != 1)
        die("write");
    task_join(t);
    printf("%s: %ld\n", what, result);
}

static void probe(void)
{
    memory = mmap(NULL, HUGE_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    wait_in("read", read_it);
    wait_in("readv", read_parts);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        die("socketpair");
    wait_in("read of a socket", read_it);
    wait_in("recv", receive);
    wait_in("recvmsg", receive_message);

    make_file("file", 100000);
    int file = open("file", O_RDWR | O_CLOEXEC), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (file < 0 || null < 0)
        die("open");
    SHOW(read(file, memory, HUGE_SIZE));
    SHOW(pread(file, memory, HUGE_SIZE, 5));
    SHOW(read(file, memory, all));
    SHOW(read(ends[0], memory, all));
    SHOW(read(ends[0], memory, beyond));
    SHOW(pread(file, memory, negative, 0));
    SHOW(write(null, memory, HUGE_SIZE));
    SHOW(pwrite(null, memory, HUGE_SIZE, 0));
    SHOW(sendfile(null, file, &(off_t){ 0 }, HUGE_SIZE));
    SHOW(write(ends[1], memory, all));
}
