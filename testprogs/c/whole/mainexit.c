/* SPDX-License-Identifier: MIT */
/* mainexit.c - the main thread ends by pthread_exit, another goes on; handlers of exit run in their order. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_t main_thread;

static void first(void) { puts("registered first, run last"); }

static void second(void) { puts("registered second, run before"); }

static void *outlive(void *arg)
{
    pthread_join(main_thread, NULL);
    puts("the main thread is gone");
    char byte;
    printf("read: %zd\n", read(0, &byte, 1));
    exit(4);
    return arg;
}

int main(void)
{
    pthread_t other;
    main_thread = pthread_self();
    atexit(first);
    atexit(second);
    if (pthread_create(&other, NULL, outlive, NULL))
        return 1;
    usleep(1000);
    pthread_exit(NULL);
}
