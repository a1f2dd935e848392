/* SPDX-License-Identifier: MIT */
/* shared_locks.c - locks and futexes in memory that two processes share: they exclude, and a wait
 * lasts until it is ended. */
#define _GNU_SOURCE
#include "probe.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* Headers older than Linux 5.16 do not have these. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef FUTEX_32
#define FUTEX_32 2
struct futex_waitv {
    uint64_t value, address;
    uint32_t flags, unused;
};
#endif

enum { ROUNDS = 100 };

static struct shared {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    pthread_rwlock_t rwlock;
    pthread_barrier_t barrier;
    sem_t sems[2];
    volatile int inside, clashes, turn, stage;
    volatile long count;
    uint32_t futexes[2];
} * shared;

static pid_t begin(void (*child)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        child();
        _exit(0);
    }
    return pid;
}

static void end(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    if (status)
        printf("the child ended with %#x\n", (unsigned)status);
}

/* ---- Mutexes -------------------------------------------------------------------------------- */

static void add(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        check(pthread_mutex_lock(&shared->mutex), "lock");
        if (shared->inside++)
            shared->clashes++;
        long before = shared->count;
        usleep(20);
        shared->count = before + 1;
        shared->inside--;
        check(pthread_mutex_unlock(&shared->mutex), "unlock");
    }
}

/* The parent holds it. */
static void try_anothers(void)
{
    printf("  trylock of another's: %s\n", strerror(pthread_mutex_trylock(&shared->mutex)));
    struct timespec past = { 1, 0 };
    printf("  timedlock of another's: %s\n",
           strerror(pthread_mutex_timedlock(&shared->mutex, &past)));
    fflush(stdout);
}

static void mutexes(void)
{
    static const struct {
        const char *name;
        int type, robust, protocol;
    } KINDS[] = {
        { "normal", PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE },
        { "recursive", PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_NONE },
        { "error-checking", PTHREAD_MUTEX_ERRORCHECK, 0, PTHREAD_PRIO_NONE },
        { "robust", PTHREAD_MUTEX_NORMAL, 1, PTHREAD_PRIO_NONE },
        { "robust and recursive", PTHREAD_MUTEX_RECURSIVE, 1, PTHREAD_PRIO_NONE },
        { "inheriting", PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_INHERIT },
        { "inheriting and recursive", PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_INHERIT },
    };
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++) {
        pthread_mutexattr_t kind;
        pthread_mutexattr_init(&kind);
        pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_settype(&kind, KINDS[i].type);
        pthread_mutexattr_setprotocol(&kind, KINDS[i].protocol);
        pthread_mutexattr_setrobust(&kind,
                                    KINDS[i].robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
        check(pthread_mutex_init(&shared->mutex, &kind), "init");
        shared->count = shared->clashes = shared->inside = 0;
        check(pthread_mutex_lock(&shared->mutex), "lock");
        printf("%s\n", KINDS[i].name);
        end(begin(try_anothers));
        check(pthread_mutex_unlock(&shared->mutex), "unlock");
        pid_t child = begin(add);
        add();
        end(child);
        printf("  added %ld, clashes %d\n", shared->count, shared->clashes);
    }
}

/* The word of a robust mutex shows whether there are waiters. */
static int is_waited_for(void) { return *(volatile unsigned *)&shared->mutex & FUTEX_WAITERS; }

static void die_with_it(void)
{
    check(pthread_mutex_lock(&shared->mutex), "lock");
    shared->stage = 1;
    while (!is_waited_for())
        usleep(100);
}

static void owner_dies(void)
{
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    check(pthread_mutex_init(&shared->mutex, &robust), "init");
    shared->stage = 0;
    pid_t child = begin(die_with_it);
    while (!shared->stage)
        usleep(100);
    printf("its owner died: %s\n", strerror(pthread_mutex_lock(&shared->mutex)));
    end(child);
    SHOW(pthread_mutex_consistent(&shared->mutex));
    SHOW(pthread_mutex_unlock(&shared->mutex));
    SHOW(pthread_mutex_lock(&shared->mutex));
    SHOW(pthread_mutex_unlock(&shared->mutex));
}

/* ---- Other waits ---------------------------------------------------------------------------- */

static void sem_echo(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        while (sem_wait(&shared->sems[0]))
            ;
        sem_post(&shared->sems[1]);
    }
}

static void semaphores(void)
{
    sem_init(&shared->sems[0], 1, 0);
    sem_init(&shared->sems[1], 1, 0);
    pid_t child = begin(sem_echo);
    for (int i = 0; i < ROUNDS; i++) {
        sem_post(&shared->sems[0]);
        while (sem_wait(&shared->sems[1]))
            ;
    }
    end(child);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += soon.tv_nsec < 980000000 ? 20000000 : 0;
    SHOW(sem_timedwait(&shared->sems[0], &soon));
    SHOW(sem_trywait(&shared->sems[0]));
    SHOW(sem_post(&shared->sems[0]));
    SHOW(sem_wait(&shared->sems[0]));
}

static void write_first(void)
{
    check(pthread_rwlock_wrlock(&shared->rwlock), "wrlock");
    shared->stage = 1;
    usleep(20000);
    shared->count = 7;
    check(pthread_rwlock_unlock(&shared->rwlock), "unlock");
}

static void rwlocks(void)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    for (int write = 0; write <= 1; write++) {
        check(pthread_rwlock_init(&shared->rwlock, &attributes), "init");
        shared->stage = shared->count = 0;
        pid_t child = begin(write_first);
        while (!shared->stage)
            usleep(100);
        check((write ? pthread_rwlock_wrlock : pthread_rwlock_rdlock)(&shared->rwlock), "lock");
        printf("locked after the writer: %ld\n", shared->count);
        if (write)
            printf("once more: %s\n", strerror(pthread_rwlock_wrlock(&shared->rwlock)));
        SHOW(pthread_rwlock_unlock(&shared->rwlock));
        SHOW(pthread_rwlock_trywrlock(&shared->rwlock));
        SHOW(pthread_rwlock_unlock(&shared->rwlock));
        end(child);
    }
}

static void meet(void)
{
    for (int i = 0; i < ROUNDS; i++)
        pthread_barrier_wait(&shared->barrier);
}

static void barriers(void)
{
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    check(pthread_barrier_init(&shared->barrier, &attributes, 2), "init");
    pid_t child = begin(meet);
    meet();
    end(child);
    puts("met");
}

static void take_turns(int mine)
{
    check(pthread_mutex_lock(&shared->mutex), "lock");
    for (int i = 0; i < ROUNDS; i++) {
        while (shared->turn != mine)
            check(pthread_cond_wait(&shared->cond, &shared->mutex), "cond_wait");
        shared->turn = !mine;
        check(pthread_cond_signal(&shared->cond), "signal");
    }
    check(pthread_mutex_unlock(&shared->mutex), "unlock");
}

static void take_other_turns(void) { take_turns(1); }

static void conditions(void)
{
    pthread_condattr_t attributes;
    pthread_mutexattr_t kind;
    pthread_condattr_init(&attributes);
    pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    check(pthread_cond_init(&shared->cond, &attributes), "init");
    check(pthread_mutex_init(&shared->mutex, &kind), "init");
    shared->turn = 0;
    pid_t child = begin(take_other_turns);
    take_turns(0);
    end(child);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += (soon.tv_nsec += 20000000) >= 1000000000;
    soon.tv_nsec %= 1000000000;
    check(pthread_mutex_lock(&shared->mutex), "lock");
    int error;
    while ((error = pthread_cond_timedwait(&shared->cond, &shared->mutex, &soon)) == 0)
        ;
    printf("took turns; then %s\n", strerror(error));
    check(pthread_mutex_unlock(&shared->mutex), "unlock");
}

/* ---- Futexes -------------------------------------------------------------------------------- */

static long futex(int which, int operation, uint32_t value, uintptr_t time_or_count,
                  uint32_t *second, uint32_t third)
{
    return syscall(SYS_futex, &shared->futexes[which], operation, value, time_or_count, second,
                   third);
}

static void show_wait(const char *what, long result)
{
    printf("  %s: %ld %s\n", what, result, result < 0 ? strerror(errno) : "");
    fflush(stdout);
}

static const struct timespec LONG_TIME = { 20, 0 };

static void wait_for_value(void)
{
    show_wait("wait", futex(0, FUTEX_WAIT, 0, (uintptr_t)&LONG_TIME, NULL, 0));
}

static void wait_for_bit(void)
{
    show_wait("wait for a bit", futex(0, FUTEX_WAIT_BITSET, 0, 0, NULL, 4));
}

static void wait_for_one(void)
{
    struct futex_waitv both[2] = {
        { 0, (uintptr_t)&shared->futexes[0], FUTEX_32, 0 },
        { 0, (uintptr_t)&shared->futexes[1], FUTEX_32, 0 },
    };
    show_wait("wait for one of two", syscall(SYS_futex_waitv, both, 2, 0, NULL, 0));
}

/* Repeats the call until it has found a waiter, because the child may not wait yet. */
static long until_one(int which, int operation, uint32_t value, uintptr_t count, uint32_t *second,
                      uint32_t third)
{
    long n;
    while ((n = futex(which, operation, value, count, second, third)) == 0)
        usleep(200);
    return n;
}

static void futexes(void)
{
    const struct timespec short_time = { 0, 10000000 };
    uint32_t *second = &shared->futexes[1];
    SHOW(futex(0, FUTEX_WAIT, 1, 0, NULL, 0));
    SHOW(futex(0, FUTEX_WAIT, 0, (uintptr_t)&short_time, NULL, 0));
    SHOW(futex(0, FUTEX_WAIT, 0, 8, NULL, 0));
    SHOW(futex(0, FUTEX_WAKE, 1, 0, NULL, 0));
    pid_t child = begin(wait_for_value);
    long n = until_one(0, FUTEX_WAKE, 5, 0, NULL, 0);
    end(child);
    printf("woken: %ld\n", n);
    child = begin(wait_for_bit);
    n = until_one(0, FUTEX_CMP_REQUEUE, 0, 5, second, 0);
    long none = futex(0, FUTEX_WAKE, 5, 0, NULL, 0) + futex(1, FUTEX_WAKE_BITSET, 5, 0, NULL, 3);
    long one = futex(1, FUTEX_WAKE_BITSET, 5, 0, NULL, 12);
    end(child);
    printf("moved: %ld, then woken: %ld and %ld\n", n, none, one);
    child = begin(wait_for_value);
    n = until_one(1, FUTEX_WAKE_OP, 1, 5, &shared->futexes[0],
                  FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 0));
    end(child);
    printf("woken: %ld\n", n);
    child = begin(wait_for_one);
    n = until_one(1, FUTEX_WAKE, 5, 0, NULL, 0);
    end(child);
    printf("woken: %ld\n", n);
}

static volatile int stop;
static long ran;

/* Runs while another task of the same thread waits. */
static void *run_meanwhile(void *arg)
{
    for (; !stop; ran++)
        usleep(1000);
    return arg;
}

static void probe(void)
{
    task_t other = task_spawn(run_meanwhile, NULL);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    mutexes();
    owner_dies();
    semaphores();
    rwlocks();
    barriers();
    conditions();
    futexes();
    stop = 1;
    task_join(other);
    printf("another ran meanwhile: %s\n", ran > 10 ? "yes" : "no");
}
