/* SPDX-License-Identifier: MIT */
/* interposed.c - makes calls on fibers that interposer.c changes, and waits for deadlines on clocks
 * that it fakes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <mqueue.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "probe.h"

static struct timespec in_20_ms(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_nsec += 20000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    return time;
}

static void *others(void *arg)
{
    for (int i = 0; i < 3; i++)
        usleep(100);
    return arg;
}

static void waits(void)
{
    struct timespec time = in_20_ms(CLOCK_REALTIME);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&mutex);
    printf("condition: %s\n", strerror(pthread_cond_timedwait(&condition, &mutex, &time)));
    pthread_mutex_unlock(&mutex);
    time = in_20_ms(CLOCK_REALTIME);
    SHOW(sem_timedwait(&semaphore, &time));
    time = in_20_ms(CLOCK_MONOTONIC);
    printf("monotonic condition: %s\n",
           strerror(pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &time)));
    time = (struct timespec){ 0, 20000000 };
    SHOW(nanosleep(&time, NULL));
    struct pollfd none = { -1, POLLIN, 0 };
    SHOW(poll(&none, 1, 20));
    SHOW(poll(&none, 1, 600000));
    SHOW(usleep(600000000));
    sem_destroy(&semaphore);
}

static void probe(void)
{
    task_t tasks[2] = { task_spawn(others, NULL), task_spawn(others, NULL) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(9),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    SHOW(connect(fd, (struct sockaddr *)&address, sizeof address));
    close(fd);
    SHOW(fsync(-1));
    SHOW(fsync(fd));
    struct hostent *found = gethostbyname("x.invalid");
    printf("gethostbyname: %s\n", found ? found->h_name : "nothing");
    waits();
    task_join(tasks[0]);
    task_join(tasks[1]);
    tasks[0] = task_spawn(others, NULL);
    waits();
    task_join(tasks[0]);
}
