/* SPDX-License-Identifier: MIT */
/* requirements - a scheduler whose requirements differ from libfiber's, with one mode per
 * requirement.
 *
 *   locks      it has a global lock: no fiber may be parked while it waits for a lock
 *   fork       it does nothing about fork: the child of one fiber runs no other
 *   elsewhere  its thread sleeps in its own poll(2), which only its wake callback ends
 *   yields     no fiber may be made to yield in a call that does not wait
 *   expire     its fibers wait in their own event loops, which it ends as if their time were up
 *   blocked    it counts the fibers that only another fiber can wake
 *   functions  it counts them while a pool thread runs a function with call-backs
 *   moved      it resumes a fiber on another OS thread, which it must not
 *   early      its park returns before the unpark, which it must not */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "aioshim.h"

enum { FIBERS = 4, STACK = 256 * 1024 };

struct fiber {
    ucontext_t context;
    void (*work)(void);
    int done;
    char stack[STACK];
};

static struct host {
    ucontext_t scheduler;
    struct fiber *current;
    struct fiber *queue[FIBERS]; /* runnable, a ring */
    unsigned head, count, left;
    aioshim_thread_t *shim;
    int no_park;      /* the running fiber must not be parked */
    int wake_pipe[2]; /* ends the scheduler's own sleep */
} host;

static struct fiber fibers[FIBERS];
static pid_t first_process;

static struct {
    int (*attach)(const aioshim_host_t *, void *, aioshim_thread_t **);
    int (*detach)(aioshim_thread_t *);
    int (*poll)(aioshim_thread_t *, int64_t);
    void (*wake)(aioshim_thread_t *);
    int (*expire)(aioshim_thread_t *, const void *);
    size_t (*in_flight)(const aioshim_thread_t *);
    size_t (*blocked)(const aioshim_thread_t *);
    int (*all_blocked)(const aioshim_thread_t *);
} shim;

static void fail(const char *what)
{
    fprintf(stderr, "demanding: %s\n", what);
    _exit(1);
}

/* ---- The host's callbacks ------------------------------------------------------------------- */

static void *running(void *data) { return ((struct host *)data)->current; }

static unsigned runnable(void *data) { return ((struct host *)data)->count; }

static void unpark(void *data, void *fiber)
{
    struct host *h = data;
    h->queue[(h->head + h->count++) % FIBERS] = fiber;
}

static void park(void *data)
{
    struct host *h = data;
    struct fiber *self = h->current;
    if (h->no_park)
        fail("parked where it must not be");
    swapcontext(&self->context, &h->scheduler);
}

static void park_not(void *data) { (void)data; }

static void wake(void *data) { shim.wake(((struct host *)data)->shim); }

static void wake_elsewhere(void *data) { (void)!write(((struct host *)data)->wake_pipe[1], "", 1); }

static aioshim_host_t table = { sizeof table, running, park, unpark, runnable, wake,
                                NULL,         NULL,    NULL, NULL,   0,        0 };

/* ---- The scheduler -------------------------------------------------------------------------- */

static void begin(unsigned number)
{
    fibers[number].work();
    fibers[number].done = 1;
}

static void make(unsigned number, void (*work)(void))
{
    struct fiber *fiber = &fibers[number];
    fiber->work = work;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK;
    fiber->context.uc_link = &host.scheduler;
    makecontext(&fiber->context, (void (*)(void))begin, 1, number);
    unpark(&host, fiber);
    host.left++;
}

static void run_one(void)
{
    struct fiber *next = host.queue[host.head];
    host.head = (host.head + 1) % FIBERS;
    host.count--;
    host.current = next;
    swapcontext(&host.scheduler, &next->context);
    host.current = NULL;
    host.left -= (unsigned)next->done;
}

static void run(int sleeps_elsewhere)
{
    while (host.left > 0) {
        for (unsigned round = host.count; round > 0 && host.count > 0; round--)
            run_one();
        if (host.left == 0)
            return;
        int polled = shim.poll(host.shim, host.count || sleeps_elsewhere ? 0 : -1);
        if (sleeps_elsewhere && polled == 0 && host.count == 0) {
            struct pollfd end = { host.wake_pipe[0], POLLIN, 0 };
            char bytes[64];
            if (poll(&end, 1, 20000) != 1 || read(host.wake_pipe[0], bytes, sizeof bytes) < 1)
                fail("not woken");
        }
    }
}

/* ---- locks ---------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t held, others_turn;

/* Holds the lock for a while, like a thread that runs the interpreter. */
static void *hold_mutex(void *arg)
{
    pthread_mutex_lock(&mutex);
    sem_post(&held);
    nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void wait_for_locks(void)
{
    pthread_t thread;
    sem_init(&held, 0, 0);
    pthread_create(&thread, NULL, hold_mutex, NULL);
    host.no_park = 1;
    while (sem_wait(&held))
        ;
    pthread_mutex_lock(&mutex);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += (soon.tv_nsec += 5000000) >= 1000000000;
    soon.tv_nsec %= 1000000000;
    if (pthread_cond_timedwait(&cond, &mutex, &soon) != ETIMEDOUT)
        fail("no timeout");
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 10000; i++) {
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
    }
    host.no_park = 0;
    /* It may be parked in calls that are not locks. */
    nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    pthread_join(thread, NULL);
}

static void nothing_much(void)
{
    for (int i = 0; i < 10; i++)
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
}

/* ---- fork ----------------------------------------------------------------------------------- */

static int pipes[2][2];
static atomic_int forked;

static void run_in_parent_only(void)
{
    while (!forked) {
        nanosleep(&(struct timespec){ 0, 100000 }, NULL);
        if (getpid() != first_process)
            fail("another fiber runs in the child");
    }
}

static void fork_one(void)
{
    char byte;
    pid_t child = fork();
    if (child == 0) {
        /* The other fiber is runnable, but a wait must not let it run. */
        if (write(pipes[1][1], "c", 1) != 1 || read(pipes[0][0], &byte, 1) != 1)
            _exit(2);
        nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
        /* The scheduler restarts with only this fiber. */
        host.count = 0;
        host.left = 1;
        if (shim.attach(&table, &host, &host.shim) != 0)
            _exit(3);
        if (write(pipes[1][1], "c", 1) != 1 || read(pipes[0][0], &byte, 1) != 1)
            _exit(4);
        _exit(0);
    }
    int status;
    for (int i = 0; i < 2; i++)
        if (read(pipes[1][0], &byte, 1) != 1 || write(pipes[0][1], "p", 1) != 1)
            fail("pipes");
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("the child failed");
    forked = 1;
}

/* ---- elsewhere ------------------------------------------------------------------------------ */

static void *feed(void *arg)
{
    nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
    (void)!write(pipes[0][1], "x", 1);
    sem_wait(&others_turn);
    nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void *lock_first(void *arg)
{
    pthread_mutex_lock(&mutex);
    sem_post(&held);
    return feed(arg);
}

static void wait_for_all(void)
{
    pthread_t thread;
    char byte;
    sem_init(&held, 0, 0);
    sem_init(&others_turn, 0, 0);
    pthread_create(&thread, NULL, lock_first, NULL);
    while (sem_wait(&held))
        ;
    /* A wait in the engine. */
    if (read(pipes[0][0], &byte, 1) != 1)
        fail("read");
    nanosleep(&(struct timespec){ 0, 5000000 }, NULL);
    /* A wait for a lock. */
    sem_post(&others_turn);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    /* A wait on the pool. */
    struct addrinfo *addresses;
    if (getaddrinfo("127.0.0.1", "80", NULL, &addresses) == 0)
        freeaddrinfo(addresses);
    pthread_join(thread, NULL);
}

/* ---- yields --------------------------------------------------------------------------------- */

static void make_short_calls(void)
{
    char byte;
    nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    host.no_park = 1;
    for (int i = 0; i < 10000; i++) {
        if (write(pipes[0][1], "x", 1) != 1 || read(pipes[0][0], &byte, 1) != 1)
            fail("pipes");
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
    }
    host.no_park = 0;
}

/* ---- expire --------------------------------------------------------------------------------- */

static void poll_for_ever(void)
{
    struct pollfd file = { pipes[0][0], POLLIN, 0 };
    if (poll(&file, 1, -1) != 0)
        fail("poll did not return 0");
    if (poll(NULL, 0, -1) != 0)
        fail("poll without files did not return 0");
}

static void select_for_ever(void)
{
    fd_set files;
    FD_ZERO(&files);
    FD_SET(pipes[0][0], &files);
    if (select(pipes[0][0] + 1, &files, NULL, NULL, NULL) != 0 || FD_ISSET(pipes[0][0], &files))
        fail("select did not return 0");
}

static void epoll_for_ever(void)
{
    struct epoll_event event = { .events = EPOLLIN };
    int files = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(files, EPOLL_CTL_ADD, pipes[0][0], &event);
    if (epoll_wait(files, &event, 1, -1) != 0)
        fail("epoll_wait did not return 0");
    close(files);
}

/* Reads from an empty pipe: that has no time limit. */
static void read_for_a_while(void)
{
    char byte;
    if (read(pipes[1][0], &byte, 1) != 1)
        fail("read");
}

static void end_event_loops(void)
{
    for (;;) {
        while (host.count > 0)
            run_one();
        if (host.left == 1)
            break;
        for (int i = 0; i < 3; i++)
            if (!fibers[i].done && shim.expire(host.shim, &fibers[i]) != 0)
                fail("cannot end an event loop");
        if (shim.expire(host.shim, &fibers[3]) != ESRCH)
            fail("ended a read");
        shim.poll(host.shim, host.count ? 0 : -1);
    }
    (void)!write(pipes[1][1], "x", 1);
}

/* ---- blocked -------------------------------------------------------------------------------- */

static void lock_and_unlock(void)
{
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
}

static void hold_for_a_while(void)
{
    char byte;
    pthread_mutex_lock(&mutex);
    if (read(pipes[0][0], &byte, 1) != 1)
        fail("read");
    pthread_mutex_unlock(&mutex);
}

static void count_blocked(void)
{
    while (host.count > 0) {
        run_one();
        shim.poll(host.shim, 0);
    }
    if (shim.in_flight(host.shim) != 3 || shim.blocked(host.shim) != 2)
        fail("wrong number of blocked fibers");
    if (shim.all_blocked(host.shim))
        fail("a fiber that reads a pipe is blocked by others");
    (void)!write(pipes[0][1], "x", 1);
}

/* ---- functions ------------------------------------------------------------------------------ */

static int visit(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)path, (void)status, (void)kind, (void)place;
    return 0;
}

static void walk(void)
{
    if (nftw("/proc/self/task", visit, 4, FTW_PHYS) < 0)
        fail("nftw");
}

/* Neither walk waits for another fiber, whether its pool thread is done already or not. */
static void count_walks(void)
{
    while (host.count > 0)
        run_one();
    if (shim.in_flight(host.shim) != 2 || shim.blocked(host.shim) || shim.all_blocked(host.shim))
        fail("a walk counts as blocked");
}

/* ---- moved ---------------------------------------------------------------------------------- */

static void wait_to_be_moved(void)
{
    nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    fail("it went on, on another thread");
}

static void *resume(void *arg)
{
    host.current = arg;
    swapcontext(&host.scheduler, &fibers[0].context);
    return NULL;
}

static void move(void)
{
    pthread_t thread;
    run_one();
    while (host.count == 0)
        shim.poll(host.shim, -1);
    pthread_create(&thread, NULL, resume, host.queue[host.head]);
    pthread_join(thread, NULL);
}

static void wait_too_briefly(void)
{
    nanosleep(&(struct timespec){ 10, 0 }, NULL);
    fail("it went on before its time");
}

/* --------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    const char *mode = argc == 2 ? argv[1] : "";
    first_process = getpid();
    *(void **)&shim.attach = dlsym(RTLD_DEFAULT, "aioshim_attach");
    *(void **)&shim.detach = dlsym(RTLD_DEFAULT, "aioshim_detach");
    *(void **)&shim.poll = dlsym(RTLD_DEFAULT, "aioshim_poll");
    *(void **)&shim.wake = dlsym(RTLD_DEFAULT, "aioshim_wake");
    *(void **)&shim.expire = dlsym(RTLD_DEFAULT, "aioshim_expire");
    *(void **)&shim.in_flight = dlsym(RTLD_DEFAULT, "aioshim_in_flight");
    *(void **)&shim.blocked = dlsym(RTLD_DEFAULT, "aioshim_blocked");
    *(void **)&shim.all_blocked = dlsym(RTLD_DEFAULT, "aioshim_all_blocked");
    if (!shim.attach)
        fail("not preloaded");
    if (pipe(pipes[0]) || pipe(pipes[1]) || pipe(host.wake_pipe))
        fail("pipe");
    int elsewhere = strcmp(mode, "elsewhere") == 0;
    if (elsewhere)
        table.wake = wake_elsewhere;
    if (strcmp(mode, "locks") == 0)
        table.flags = AIOSHIM_HOST_PLAIN_LOCKS;
    if (strcmp(mode, "early") == 0)
        table.park = park_not;
    if (strcmp(mode, "yields") == 0)
        table.flags = AIOSHIM_HOST_NO_YIELDS;
    if (shim.attach(&table, &host, &host.shim) != 0)
        fail("cannot attach");
    if (strcmp(mode, "locks") == 0) {
        make(0, wait_for_locks);
        make(1, nothing_much);
    } else if (strcmp(mode, "fork") == 0) {
        make(0, fork_one);
        make(1, run_in_parent_only);
    } else if (elsewhere) {
        make(0, wait_for_all);
    } else if (strcmp(mode, "yields") == 0) {
        make(0, make_short_calls);
        make(1, nothing_much);
    } else if (strcmp(mode, "expire") == 0) {
        make(0, poll_for_ever);
        make(1, select_for_ever);
        make(2, epoll_for_ever);
        make(3, read_for_a_while);
        end_event_loops();
    } else if (strcmp(mode, "blocked") == 0) {
        make(0, hold_for_a_while);
        make(1, lock_and_unlock);
        make(2, lock_and_unlock);
        count_blocked();
    } else if (strcmp(mode, "functions") == 0) {
        make(0, walk);
        make(1, walk);
        count_walks();
    } else if (strcmp(mode, "moved") == 0) {
        make(0, wait_to_be_moved);
        move();
    } else if (strcmp(mode, "early") == 0) {
        make(0, wait_too_briefly);
    } else {
        fail("usage: demanding locks|fork|elsewhere|yields|expire|blocked|functions|moved|early");
    }
    run(elsewhere);
    if (shim.detach(host.shim) != 0)
        fail("cannot detach");
    puts("done");
    return 0;
}
