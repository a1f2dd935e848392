/* SPDX-License-Identifier: MIT */
/* interposer.c - a library to preload together with the shim. It interposes some libc functions,
 * reports a different year, and refuses connections. Its effect on a program must not depend on the
 * order of the two libraries. */
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

/* Stands for a library that redirects connections; this one refuses them. */
int connect(int fd, const struct sockaddr *address, socklen_t n)
{
    if (address->sa_family == AF_INET) {
        errno = ENETUNREACH;
        return -1;
    }
    return NEXT(connect)(fd, address, n);
}

/* Stands for a library that omits calls that wait for a disk. */
int fsync(int fd)
{
    if (fd == -1)
        return 77;
    return NEXT(fsync)(fd);
}

/* Stands for a library that looks names up elsewhere. */
struct hostent *gethostbyname(const char *name)
{
    static struct hostent made_up;
    made_up.h_name = (char *)(name[0] == 'x' ? "made up" : name);
    return &made_up;
}

/* Stands for a library that fakes the time. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = NEXT(clock_gettime)(clock, time);
    time->tv_sec -= TEN_YEARS;
    return result;
}

/* Limits the length of sleeps. */
int usleep(useconds_t time) { return NEXT(usleep)(time > 1000 ? 1000 : time); }

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    return NEXT(poll)(fds, n, timeout > 10 ? 10 : timeout);
}
