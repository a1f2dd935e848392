/* SPDX-License-Identifier: MIT */
/* mainexit.c - the main thread ends with pthread_exit, and another thread continues alone; exit
 * handlers run in order. */
#include <dirent.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_t main_thread;

static void first(void) { puts("registered first, run last"); }

static void second(void) { puts("registered second, run before"); }

static int threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;
    while (readdir(tasks))
        n++;
    closedir(tasks);
    return n - 2;
}

static void *outlive(void *arg)
{
    pthread_join(main_thread, NULL);
    puts("the main thread is gone");
    /* The kernel keeps the main thread in the list. Other threads may be about to end. */
    for (int i = 0; i < 200 && threads() > 2; i++)
        usleep(10000);
    printf("threads: %d\n", threads());
    char byte;
    printf("read: %zd\n", read(0, &byte, 1));
    exit(4);
    return arg;
}

int main(void)
{
    pthread_t other;
    main_thread = pthread_self();
    if (!getpwnam("root"))
        puts("no root");
    atexit(first);
    atexit(second);
    if (pthread_create(&other, NULL, outlive, NULL))
        return 1;
    usleep(1000);
    pthread_exit(NULL);
}
