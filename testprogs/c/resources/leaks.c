/* SPDX-License-Identifier: MIT */
/* leaks.c - calls every pair of functions that begin and end something in long loops. The process
 * must not use more memory, descriptors or mappings over time. Prints the pairs that use more each
 * time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#include "task.h"

/* The shim is loaded: a call that waits lets other fibers run. */
static int waits_park;

static void *nothing(void *arg) { return arg; }

static void *nap(void *arg)
{
    usleep(1);
    return arg;
}

static void *two_fibers(void *arg)
{
    task_t tasks[2] = { task_spawn(nap, arg), task_spawn(nap, arg) };
    task_join(tasks[0]);
    task_join(tasks[1]);
    return arg;
}

static void runtime_of(unsigned workers)
{
    fiber_options_t options = FIBER_OPTIONS_INIT;
    options.workers = workers;
    check(fiber_run(&options, two_fibers, NULL, NULL), "fiber_run");
}

static void *runtime_of_one(void *arg)
{
    runtime_of(1);
    return arg;
}

/* ---- The pairs ------------------------------------------------------------------------------ */

static void runtime1(void) { runtime_of(1); }
static void runtime3(void) { runtime_of(3); }

static void runtime_in_thread(void)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, runtime_of_one, NULL), "pthread_create");
    check(pthread_join(thread, NULL), "pthread_join");
}

static void fiber(void) { task_join(task_spawn(nap, NULL)); }

static void detached_fiber(void)
{
    fiber_t *fiber;
    check(fiber_create(&fiber, NULL, nothing, NULL), "fiber_create");
    check(fiber_detach(fiber), "fiber_detach");
    fiber_yield();
}

static void cancelled_fiber(void)
{
    int ends[2];
    char byte;
    (void)byte;
    if (pipe(ends))
        die("pipe");
    fiber_t *fiber;
    check(fiber_create(&fiber, NULL, nap, NULL), "fiber_create");
    fiber_cancel(fiber);
    check(fiber_join(fiber, NULL), "fiber_join");
    close(ends[0]);
    close(ends[1]);
}

static void thread(void)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, nap, NULL), "pthread_create");
    check(pthread_join(thread, NULL), "pthread_join");
}

static pthread_mutex_t *contended;

static void *lock(void *arg)
{
    pthread_mutex_lock(contended);
    pthread_mutex_unlock(contended);
    return arg;
}

static void mutex(void)
{
    /* Each mutex has a different address, and one fiber waits for it. */
    contended = malloc(4096);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(contended, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_mutex_lock(contended);
    if (waits_park) {
        task_t task = task_spawn(lock, NULL);
        fiber_yield();
        pthread_mutex_unlock(contended);
        task_join(task);
    } else {
        pthread_mutex_unlock(contended);
    }
    pthread_mutex_destroy(contended);
    free(contended);
}

static void robust_mutex(void)
{
    pthread_mutex_t mutex;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &attributes);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    pthread_mutex_destroy(&mutex);
}

static struct timespec soon(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time;
}

static void condition(void)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition;
    struct timespec time = soon();
    pthread_cond_init(&condition, NULL);
    pthread_mutex_lock(&mutex);
    pthread_cond_timedwait(&condition, &mutex, &time);
    pthread_mutex_unlock(&mutex);
    pthread_cond_destroy(&condition);
}

static void semaphore(void)
{
    sem_t semaphore;
    struct timespec time = soon();
    sem_init(&semaphore, 0, 1);
    sem_wait(&semaphore);
    sem_timedwait(&semaphore, &time);
    sem_destroy(&semaphore);
}

static void rwlock(void)
{
    pthread_rwlock_t lock;
    pthread_rwlock_init(&lock, NULL);
    pthread_rwlock_rdlock(&lock);
    pthread_rwlock_unlock(&lock);
    pthread_rwlock_wrlock(&lock);
    pthread_rwlock_unlock(&lock);
    pthread_rwlock_destroy(&lock);
}

static void barrier(void)
{
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 1);
    pthread_barrier_wait(&barrier);
    pthread_barrier_destroy(&barrier);
}

static void do_nothing(void) {}

static void once(void)
{
    pthread_once_t *control = calloc(1, 512);
    pthread_once(control, do_nothing);
    free(control);
}

static void keys(void)
{
    pthread_key_t key;
    fiber_key_t fiber_key;
    check(pthread_key_create(&key, NULL), "pthread_key_create");
    pthread_setspecific(key, &key);
    pthread_key_delete(key);
    check(fiber_key_create(&fiber_key, NULL), "fiber_key_create");
    fiber_setspecific(fiber_key, &key);
    fiber_key_delete(fiber_key);
}

static void fiber_locks(void)
{
    fiber_mutex_t mutex;
    fiber_cond_t condition;
    fiber_sem_t semaphore;
    fiber_mutex_init(&mutex, NULL);
    fiber_cond_init(&condition, NULL);
    fiber_sem_init(&semaphore, 0, 1);
    fiber_sem_wait(&semaphore);
    fiber_mutex_lock(&mutex);
    fiber_mutex_unlock(&mutex);
    fiber_cond_destroy(&condition);
    fiber_sem_destroy(&semaphore);
    fiber_mutex_destroy(&mutex);
}

static void timer(void)
{
    timer_t timer;
    struct sigevent none = { .sigev_notify = SIGEV_NONE };
    if (timer_create(CLOCK_MONOTONIC, &none, &timer) || timer_delete(timer))
        die("timer_create");
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec settings = { .it_value = { 0, 1000 } };
    uint64_t times;
    if (fd < 0 || timerfd_settime(fd, 0, &settings, NULL) ||
        read(fd, &times, sizeof times) != sizeof times || close(fd))
        die("timerfd");
}

static void sleeps(void)
{
    struct timespec time = { 0, 1000 };
    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
    time = soon();
    clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL);
}

static void child(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child < 0 || waitpid(child, NULL, 0) != child)
        die("fork");
}

static void spawned(void)
{
    char *words[] = { "true", NULL }, *environment[] = { NULL };
    pid_t child;
    check(posix_spawn(&child, "/bin/true", NULL, NULL, words, environment), "posix_spawn");
    if (waitpid(child, NULL, 0) != child)
        die("waitpid");
}

static void library(void)
{
    void *library = dlopen("libutil.so.1", RTLD_NOW);
    if (!library)
        library = dlopen("libz.so.1", RTLD_NOW);
    if (library)
        dlclose(library);
}

static void stream(void)
{
    FILE *file = fopen("stream", "w+");
    if (!file || fputs("text", file) < 0 || fflush(file) || fseek(file, 0, SEEK_SET) ||
        fgetc(file) != 't' || fclose(file))
        die("fopen");
}

static void directory(void)
{
    DIR *directory = opendir(".");
    if (!directory)
        die("opendir");
    while (readdir(directory))
        ;
    closedir(directory);
}

static void process_stream(void)
{
    FILE *file = popen("exit 0", "r");
    if (!file || fgetc(file) != EOF || pclose(file))
        die("popen");
}

static void epoll(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), ends[2];
    struct epoll_event event = { .events = EPOLLIN };
    if (epoll < 0 || pipe(ends) || epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event))
        die("epoll");
    epoll_wait(epoll, &event, 1, 0);
    write_full(ends[1], "x", 1);
    if (epoll_wait(epoll, &event, 1, -1) != 1 || close(epoll) || close(ends[0]) || close(ends[1]))
        die("epoll_wait");
}

static void *read_one(void *fd)
{
    char byte;
    return read(*(int *)fd, &byte, 1) == 1 ? fd : NULL;
}

static void socket_pair(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        die("socketpair");
    if (waits_park) {
        task_t task = task_spawn(read_one, &ends[0]);
        fiber_yield();
        write_full(ends[1], "x", 1);
        task_join(task);
    }
    close(ends[0]);
    close(ends[1]);
}

static void name(void)
{
    struct addrinfo *found, hints = { .ai_flags = AI_NUMERICHOST };
    if (getaddrinfo("127.0.0.1", NULL, &hints, &found))
        die("getaddrinfo");
    freeaddrinfo(found);
}

static void on_signal(int number) { (void)number; }

static void handler(void)
{
    struct sigaction action = { .sa_handler = on_signal }, old;
    sigaction(SIGUSR1, &action, &old);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &old, NULL);
}

static void file(void)
{
    char bytes[64] = { 0 };
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, bytes, sizeof bytes, 0) != sizeof bytes || read(fd, bytes, 8) != 8 ||
        fsync(fd))
        die("file");
    close(fd);
}

/* ---- The measured cost ---------------------------------------------------------------------- */

struct cost {
    long allocated, resident, descriptors, mappings;
};

static long lines_in(const char *path)
{
    char block[65536];
    long lines = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while ((n = read(fd, block, sizeof block)) > 0)
        for (ssize_t i = 0; i < n; i++)
            lines += block[i] == '\n';
    close(fd);
    return lines;
}

static struct cost cost(void)
{
    struct cost cost = { 0 };
    struct mallinfo2 memory = mallinfo2();
    cost.allocated = (long)(memory.uordblks + memory.hblkhd);
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    close(fd);
    cost.resident = strtol(strchr(text, ' '), NULL, 10) * 4096;
    for (int number = 0; number < 2000; number++)
        cost.descriptors += fcntl(number, F_GETFD) >= 0;
    cost.mappings = lines_in("/proc/self/maps");
    return cost;
}

static const struct pair {
    const char *name;
    void (*pair)(void);
    int times;
} pairs[] = {
    { "fiber", fiber, 400 },
    { "detached fiber", detached_fiber, 400 },
    { "cancelled fiber", cancelled_fiber, 200 },
    { "thread", thread, 100 },
    { "runtime in a thread", runtime_in_thread, 40 },
    { "mutex", mutex, 400 },
    { "robust mutex", robust_mutex, 400 },
    { "condition", condition, 400 },
    { "semaphore", semaphore, 400 },
    { "read-write lock", rwlock, 400 },
    { "barrier", barrier, 400 },
    { "once", once, 400 },
    { "keys", keys, 400 },
    { "locks of libfiber", fiber_locks, 400 },
    { "timer", timer, 200 },
    { "sleeps", sleeps, 200 },
    { "fork", child, 40 },
    { "posix_spawn", spawned, 20 },
    { "dlopen", library, 40 },
    { "fopen", stream, 200 },
    { "opendir", directory, 200 },
    { "popen", process_stream, 20 },
    { "epoll", epoll, 200 },
    { "socketpair", socket_pair, 200 },
    { "getaddrinfo", name, 100 },
    { "sigaction", handler, 200 },
    { "open", file, 200 },
}, runtimes[] = {
    { "fiber_run with 1 worker", runtime1, 100 },
    { "fiber_run with 3 workers", runtime3, 50 },
};

/* Allowance per round for other causes: caches that fill up, threads that start and end. */
enum {
    SLACK_BYTES = 8 << 10,
    SLACK_RESIDENT = 256 << 10,
    SLACK_DESCRIPTORS = 2,
    SLACK_MAPPINGS = 12,
    ROUNDS = 5
};

/* Runs one round of the pair and returns how much more the process uses after it. */
static struct cost round_of(const struct pair *pair)
{
    struct cost before = cost();
    for (int i = 0; i < pair->times; i++)
        pair->pair();
    struct cost after = cost();
    after.allocated -= before.allocated;
    after.resident -= before.resident;
    after.descriptors -= before.descriptors;
    after.mappings -= before.mappings;
    return after;
}

static int is_flat(const struct pair *pair, const struct cost *more)
{
    return more->allocated <= SLACK_BYTES + 16 * pair->times &&
           more->resident <= SLACK_RESIDENT + 256 * pair->times &&
           more->descriptors <= SLACK_DESCRIPTORS && more->mappings <= SLACK_MAPPINGS;
}

/* Reports the pair only if every round uses more; a leak does. */
static void try(const struct pair *pair)
{
    struct cost more = { 0 };
    for (int i = 0; i < ROUNDS; i++) {
        more = round_of(pair);
        if (is_flat(pair, &more))
            return;
    }
    printf("%s: %d times take %ld bytes, %ld resident, %ld descriptors, %ld mappings\n", pair->name,
           pair->times, more.allocated, more.resident, more.descriptors, more.mappings);
}

static void *on_a_fiber(void *arg)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        try(&pairs[i]);
    return arg;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { TASK_LONG, { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, TASK_SHORT, options, NULL)) != -1)
        task_option(option, TASK_HELP);
    waits_park = dlsym(RTLD_DEFAULT, "aioshim_attach") != NULL;
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes; i++)
        try(&runtimes[i]);
    task_run(on_a_fiber, NULL);
    puts("flat");
    return 0;
}
