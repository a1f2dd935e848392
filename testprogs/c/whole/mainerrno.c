/* SPDX-License-Identifier: MIT */
/* mainerrno.c - errno is 0 when main begins, and when a thread and a child begin (ISO C 7.5). */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void *begin(void *unused)
{
    printf("in a thread: %d\n", errno);
    return unused;
}

int main(void)
{
    int at_start = errno;
    printf("at main: %d\n", at_start);
    pthread_t thread;
    if (pthread_create(&thread, NULL, begin, NULL) || pthread_join(thread, NULL))
        return 1;
    fflush(stdout);
    errno = 0;
    pid_t child = fork();
    if (child == 0) {
        printf("in a child: %d\n", errno);
        return 0;
    }
    int in_parent = errno;
    if (waitpid(child, NULL, 0) != child)
        return 1;
    printf("after fork: %d\n", in_parent);
    return 0;
}
