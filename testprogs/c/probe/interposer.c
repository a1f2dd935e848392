/* SPDX-License-Identifier: MIT */
/* interposer.c - a library to preload beside the shim: it interposes some of libc's functions,
 * lives in another year, and refuses what it is asked to. What of its effect a program sees must
 * not depend on the order of the two. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { TEN_YEARS = 10 * 365 * 86400 };

/* As a library that sends connections elsewhere: this one refuses them. */
int connect(int fd, const struct sockaddr *address, socklen_t n)
{
    if (address->sa_family == AF_INET) {
        errno = ENETUNREACH;
        return -1;
    }
    return NEXT(connect)(fd, address, n);
}

/* As a library that leaves out what waits for a disk. */
int fsync(int fd)
{
    if (fd == -1)
        return 77;
    return NEXT(fsync)(fd);
}

/* As a library that looks names up elsewhere. */
struct hostent *gethostbyname(const char *name)
{
    static struct hostent made_up;
    made_up.h_name = (char *)(name[0] == 'x' ? "made up" : name);
    return &made_up;
}

/* As a library that makes time up. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = NEXT(clock_gettime)(clock, time);
    time->tv_sec -= TEN_YEARS;
    return result;
}

/* It waits no longer than this. */
int usleep(useconds_t time) { return NEXT(usleep)(time > 1000 ? 1000 : time); }

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    return NEXT(poll)(fds, n, timeout > 10 ? 10 : timeout);
}
