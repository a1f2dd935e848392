/* SPDX-License-Identifier: MIT */
/* toolbox.c - uses the things that a sanitizer, valgrind or a debugger examines: threads, locks,
 * children, streams and memory. */
#define _GNU_SOURCE
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int ends[2], count;

static void *work(void *argument)
{
    struct timespec soon = { 0, 10000000 };
    nanosleep(&soon, NULL);
    pthread_mutex_lock(&mutex);
    count++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
    if (write(ends[1], "x", 1) != 1)
        abort();
    return argument;
}

int main(void)
{
    pthread_t thread;
    void *result;
    char byte, line[16] = "";
    int status;
    if (pipe(ends) || pthread_create(&thread, NULL, work, &count))
        return 1;
    pthread_mutex_lock(&mutex);
    while (count == 0)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    if (read(ends[0], &byte, 1) != 1 || pthread_join(thread, &result) || result != &count)
        return 2;
    struct passwd *root = getpwnam("root");
    FILE *shell = popen("echo from a child", "r");
    if (!root || !shell || !fgets(line, sizeof line, shell) || pclose(shell))
        return 3;
    char *copy = strdup(line);
    printf("%s, %s\n", root->pw_name, copy);
    free(copy);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    if (waitpid(child, &status, 0) != child)
        return 4;
    sched_yield();
    printf("child: %d\n", WEXITSTATUS(status));
    return 0;
}
