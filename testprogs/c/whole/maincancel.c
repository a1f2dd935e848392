/* SPDX-License-Identifier: MIT */
/* maincancel.c - another thread cancels the main thread while it waits: the main thread runs its
 * cleanup handlers and the destructors of its keys, which make calls that wait, and the other
 * thread continues alone. Without arguments, runs itself once for each call, and once more for a
 * child of fork that makes the call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static pthread_t main_thread;
static pthread_key_t key;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore, cancelled;
static int ends[2], full[2], pair[2];
static char large[1 << 20];
static struct timespec long_time = { 3600, 0 };

static void say(const char *text)
{
    if (write(1, text, strlen(text)) < 0)
        abort();
}

/* Says it after a wait. */
static void say_later(const char *text)
{
    char byte;
    int own[2];
    if (pipe(own) || write(own[1], "x", 1) != 1 || read(own[0], &byte, 1) != 1)
        abort();
    nanosleep(&(struct timespec){ 0, 1000 }, NULL);
    close(own[0]);
    close(own[1]);
    say(text);
}

static void clean_up(void *arg)
{
    (void)arg;
    say_later("cleanup\n");
}

static void unlock(void *arg)
{
    say_later(pthread_mutex_unlock(arg) ? "not locked\n" : "unlocked\n");
}

static void destroy(void *value)
{
    (void)value;
    say_later("destructor\n");
}

static void in_read(void) { (void)!read(ends[0], large, 1); }
static void in_write(void)
{
    int size = fcntl(full[1], F_GETPIPE_SZ);
    for (int i = 0; i < 2; i++)
        (void)!write(full[1], large, (size_t)size);
}
static void in_poll(void) { poll(&(struct pollfd){ ends[0], POLLIN, 0 }, 1, -1); }
static void in_receive(void) { recv(pair[0], large, 1, 0); }
static void in_sleep(void) { sleep(3600); }
static void in_nanosleep(void) { nanosleep(&long_time, NULL); }
static void in_pause(void) { pause(); }
static void in_semaphore(void) { sem_wait(&semaphore); }
static void in_gets(void) { (void)!fgets(large, 100, fdopen(ends[0], "r")); }

static void in_epoll(void)
{
    struct epoll_event event = { .events = EPOLLIN };
    int epoll = epoll_create1(0);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event))
        abort();
    epoll_wait(epoll, &event, 1, -1);
}

static void in_condition(void)
{
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(unlock, &mutex);
    pthread_cond_wait(&condition, &mutex);
    pthread_cleanup_pop(1);
}

static void in_sigwait(void)
{
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigwait(&set, &number);
}

static void in_open(void)
{
    char name[64];
    snprintf(name, sizeof name, "fifo.%d", (int)getpid());
    if (mkfifoat(AT_FDCWD, name, 0600))
        abort();
    close(open(name, O_RDONLY));
}

/* A cancellation that is disabled ends no wait. */
static void while_disabled(void)
{
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    while (sem_wait(&cancelled))
        ;
    int slept = nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
    say(slept ? "woken\n" : "slept\n");
    pthread_setcancelstate(old, NULL);
    in_read();
}

/* The cancellation comes before the wait. */
static void by_itself(void)
{
    pthread_cancel(pthread_self());
    in_sleep();
}

static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {
    { "read", in_read },
    { "write", in_write },
    { "poll", in_poll },
    { "recv", in_receive },
    { "sleep", in_sleep },
    { "nanosleep", in_nanosleep },
    { "pause", in_pause },
    { "sem_wait", in_semaphore },
    { "fgets", in_gets },
    { "epoll_wait", in_epoll },
    { "pthread_cond_wait", in_condition },
    { "sigwait", in_sigwait },
    { "open", in_open },
    { "disabled", while_disabled },
    { "itself", by_itself },
};
enum { CALLS = sizeof calls / sizeof *calls };

static void (*call)(void);

/* Waits until the main thread sleeps, so that the cancellation comes during its wait. */
static void await_sleep(void)
{
    char path[64], state = 'R';
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    while (state != 'S') {
        FILE *file = fopen(path, "r");
        if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
            abort();
        fclose(file);
    }
}

static void *cancel(void *arg)
{
    void *result;
    if (call != by_itself) {
        await_sleep();
        pthread_cancel(main_thread);
        sem_post(&cancelled);
    }
    pthread_join(main_thread, &result);
    say(result == PTHREAD_CANCELED ? "cancelled\n" : "ended\n");
    exit(3);
    return arg;
}

static int run_each(char *self, char *where)
{
    for (int i = 0; i < CALLS; i++) {
        char *arguments[] = { self, (char *)calls[i].name, where, NULL };
        pid_t child;
        int status;
        errno = posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ);
        if (errno || waitpid(child, &status, 0) != child)
            return 1;
        printf("%s: status %x\n", calls[i].name, (unsigned)status);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t other;
    if (argc == 1)
        return run_each(argv[0], NULL) || run_each(argv[0], "child");
    for (int i = 0; i < CALLS; i++)
        if (strcmp(calls[i].name, argv[1]) == 0)
            call = calls[i].call;
    if (!call || pipe(ends) || pipe(full) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
        sem_init(&semaphore, 0, 0) || sem_init(&cancelled, 0, 0) ||
        pthread_key_create(&key, destroy) || pthread_setspecific(key, large))
        return 1;
    if (argc == 3) {
        int status = 0;
        pid_t child = fork();
        if (child) {
            waitpid(child, &status, 0);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
    }
    main_thread = pthread_self();
    if (pthread_create(&other, NULL, cancel, NULL))
        return 1;
    pthread_cleanup_push(clean_up, NULL);
    call();
    say("came back\n");
    pthread_cleanup_pop(0);
    return 0;
}
