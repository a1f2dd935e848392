/* SPDX-License-Identifier: MIT */
/* main.c - a C program whose threads call a Go library that reads files. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "libshared.h"

static void *call(void *dir)
{
    return (void *)(long)ReadAll(dir);
}

int main(int argc, char **argv)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    char dirs[THREADS][4096];
    if (argc < 2)
        return 2;
    for (int i = 0; i < THREADS; i++) {
        snprintf(dirs[i], sizeof dirs[i], "%s/%d", argv[1], i);
        mkdir(dirs[i], 0700);
        if (pthread_create(&threads[i], NULL, call, dirs[i]))
            return 1;
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        if (pthread_join(threads[i], &failed) || failed)
            return 1;
    }
    puts("ok");
    return 0;
}
