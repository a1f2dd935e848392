/* SPDX-License-Identifier: MIT */
/* starting_library - a library whose constructor starts a thread and waits for it. dlopen holds a
 * lock of the loader meanwhile. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

/* Calls functions that nothing else in the process has called. */
static void *reads(void *arg)
{
    char text[4];
    struct iovec vector = { text, sizeof text };
    int fd = openat(AT_FDCWD, "/dev/zero", O_RDONLY);
    printf("the thread read %zd bytes\n", preadv(fd, &vector, 1, 0));
    close(fd);
    return arg;
}

__attribute__((constructor)) static void start(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, reads, NULL) || pthread_join(thread, NULL))
        printf("no thread\n");
}
