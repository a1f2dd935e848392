/* SPDX-License-Identifier: MIT */
/* locks.c - tasks and plain threads contend for the same locks: the locks exclude, and no waiter is
 * forgotten. */
#define _GNU_SOURCE
#include "probe.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <threads.h>

enum { THREADS = 3, ROUNDS = 200 };

/* Runs fn in n tasks and THREADS plain threads at once, and waits for all. */
static void all_at_once(const char *what, void *(*fn)(void *), unsigned n)
{
    pthread_t threads[THREADS];
    task_t *tasks = allocate(n * sizeof *tasks);
    for (unsigned i = 0; i < n; i++)
        tasks[i] = task_spawn(fn, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, fn, (void *)(uintptr_t)(n + i)), "thread");
    for (unsigned i = 0; i < n; i++)
        task_join(tasks[i]);
    for (unsigned i = 0; i < THREADS; i++)
        check(pthread_join(threads[i], NULL), "join");
    free(tasks);
    printf("%s: ", what);
}

/* ---- Mutexes -------------------------------------------------------------------------------- */

static pthread_mutex_t mutex;
static volatile unsigned long counter, inside;

static void enter(void)
{
    if (inside++)
        wrong("two are inside");
}

static void leave(void)
{
    if (--inside)
        wrong("another came inside");
}

static void *lock_and_count(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        check(pthread_mutex_lock(&mutex), "lock");
        enter();
        if (i % 16 == 0)
            task_options.threads ? (void)sched_yield()
            : fiber_self()       ? fiber_yield()
                                 : (void)sched_yield();
        counter++;
        leave();
        check(pthread_mutex_unlock(&mutex), "unlock");
    }
    return arg;
}

static void *lock_deep(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        for (int depth = 0; depth < 3; depth++)
            check(pthread_mutex_lock(&mutex), "lock");
        enter();
        sched_yield();
        counter++;
        leave();
        for (int depth = 0; depth < 3; depth++)
            check(pthread_mutex_unlock(&mutex), "unlock");
    }
    return arg;
}

static void mutexes(unsigned n)
{
    static const int types[] = { PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ADAPTIVE_NP,
                                 PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_RECURSIVE };
    for (unsigned t = 0; t < 4; t++)
        for (int how = 0; how < 4; how++) {
            pthread_mutexattr_t attr;
            pthread_mutexattr_init(&attr);
            pthread_mutexattr_settype(&attr, types[t]);
            pthread_mutexattr_setpshared(&attr, how == 1);
            pthread_mutexattr_setrobust(&attr, how == 2);
            pthread_mutexattr_setprotocol(&attr,
                                          how == 3 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
            check(pthread_mutex_init(&mutex, &attr), "init");
            counter = 0;
            all_at_once("mutex", types[t] == PTHREAD_MUTEX_RECURSIVE ? lock_deep : lock_and_count,
                        how ? n / 4 + 1 : n);
            printf("type %d way %d: %s\n", types[t], how,
                   counter == ((how ? n / 4 + 1 : n) + THREADS) * ROUNDS ? "all" : "some missing");
            check(pthread_mutex_destroy(&mutex), "destroy");
        }
}

static pthread_mutex_t initialised = PTHREAD_MUTEX_INITIALIZER;
static int file, ends[2];

/* Holds a lock while it waits for the kernel. */
static void *lock_over_read(void *arg)
{
    char byte;
    for (int i = 0; i < 5; i++) {
        check(pthread_mutex_lock(&initialised), "lock");
        enter();
        if (pread(file, &byte, 1, i) != 1 || write(ends[1], &byte, 1) != 1 ||
            read(ends[0], &byte, 1) != 1)
            die("read");
        counter++;
        leave();
        check(pthread_mutex_unlock(&initialised), "unlock");
    }
    return arg;
}

static void *feed(void *arg)
{
    for (unsigned i = 0; i < 100; i++) {
        if (write(ends[1], "x", 1) != 1)
            die("feed");
        sched_yield();
    }
    return arg;
}

/* The task that holds the lock waits for data from a plain thread. */
static void *lock_over_wait(void *arg)
{
    char byte;
    check(pthread_mutex_lock(&initialised), "lock");
    enter();
    if (read(ends[0], &byte, 1) != 1)
        die("read");
    counter++;
    leave();
    check(pthread_mutex_unlock(&initialised), "unlock");
    return arg;
}

static void over_read(void)
{
    make_file("file", 4096);
    file = open("file", O_RDONLY);
    if (file < 0 || pipe(ends))
        die("setup");
    counter = 0;
    all_at_once("mutex over reads", lock_over_read, 100);
    printf("%lu\n", counter);
    counter = 0;
    pthread_t feeder;
    static char unused[100];
    check(pthread_create(&feeder, NULL, feed, NULL), "thread");
    task_each(lock_over_wait, unused, 1, 100);
    check(pthread_join(feeder, NULL), "join");
    printf("mutex over waits: %lu\n", counter);
    close(ends[0]);
    close(ends[1]);
    close(file);
}

static void *lock_c11(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (mtx_lock((mtx_t *)&mutex) != thrd_success)
            wrong("mtx_lock");
        counter++;
        thrd_yield();
        if (mtx_unlock((mtx_t *)&mutex) != thrd_success)
            wrong("mtx_unlock");
    }
    return arg;
}

/* ---- Conditions ----------------------------------------------------------------------------- */

static pthread_cond_t not_empty, not_full;
static unsigned queued, taken, put;
static unsigned all_items;

/* Threads and tasks with even numbers put items, those with odd numbers take them. */
static void *pass_items(void *arg)
{
    int puts = (uintptr_t)arg % 2 == 0;
    for (;;) {
        check(pthread_mutex_lock(&mutex), "lock");
        if (puts) {
            while (queued == 4 && put < all_items)
                check(pthread_cond_wait(&not_full, &mutex), "wait");
            if (put == all_items)
                break;
            put++;
            queued++;
            check(pthread_cond_signal(&not_empty), "signal");
        } else {
            struct timespec far;
            clock_gettime(CLOCK_REALTIME, &far);
            far.tv_sec += 1000;
            while (queued == 0 && taken < all_items)
                check(pthread_cond_timedwait(&not_empty, &mutex, &far), "timedwait");
            if (taken == all_items)
                break;
            queued--;
            taken++;
            check(pthread_cond_signal(&not_full), "signal");
        }
        check(pthread_mutex_unlock(&mutex), "unlock");
    }
    pthread_cond_broadcast(&not_empty);
    pthread_cond_broadcast(&not_full);
    check(pthread_mutex_unlock(&mutex), "unlock");
    return arg;
}

static void conditions(unsigned n, int shared)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setpshared(&attr, shared);
    pthread_cond_init(&not_empty, &attr);
    pthread_cond_init(&not_full, &attr);
    pthread_mutex_init(&mutex, NULL);
    queued = taken = put = 0;
    all_items = shared ? 200 : 5000;
    all_at_once("queue", pass_items, n);
    printf("%u put, %u taken, %u left\n", put, taken, queued);
    check(pthread_cond_destroy(&not_empty), "destroy");
    check(pthread_cond_destroy(&not_full), "destroy");
    check(pthread_mutex_destroy(&mutex), "destroy");
}

/* ---- Semaphores, read-write locks, barriers, spinning locks, once, futexes ------------------ */

static sem_t sem, empty;
static unsigned long within;

static void *wait_and_post(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        while (sem_wait(&sem))
            if (errno != EINTR)
                die("sem_wait");
        if (__atomic_add_fetch(&within, 1, __ATOMIC_SEQ_CST) > 2)
            wrong("three got two");
        sched_yield();
        __atomic_sub_fetch(&within, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
        if (sem_post(&sem))
            die("sem_post");
    }
    return arg;
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static unsigned long readers;

static void *read_or_write(void *arg)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        if ((i + (uintptr_t)arg) % 4) {
            check(pthread_rwlock_rdlock(&rwlock), "rdlock");
            __atomic_add_fetch(&readers, 1, __ATOMIC_SEQ_CST);
            if (inside)
                wrong("a reader beside a writer");
            sched_yield();
            __atomic_sub_fetch(&readers, 1, __ATOMIC_SEQ_CST);
            check(pthread_rwlock_unlock(&rwlock), "unlock");
        } else {
            check(pthread_rwlock_wrlock(&rwlock), "wrlock");
            enter();
            if (__atomic_load_n(&readers, __ATOMIC_SEQ_CST))
                wrong("a writer beside a reader");
            sched_yield();
            counter++;
            leave();
            check(pthread_rwlock_unlock(&rwlock), "unlock");
        }
    return arg;
}

static pthread_barrier_t barrier;
static unsigned long phases[ROUNDS], serial;

static void *meet(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        __atomic_add_fetch(&phases[i], 1, __ATOMIC_SEQ_CST);
        int answer = pthread_barrier_wait(&barrier);
        if (answer == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
        else
            check(answer, "barrier");
        if (phases[i] != all_items)
            wrong("one went ahead: %lu of %u", phases[i], all_items);
    }
    return arg;
}

/* The task that gets PTHREAD_BARRIER_SERIAL_THREAD destroys the barrier at once. */
static void *meet_and_destroy(void *arg)
{
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        check(pthread_barrier_destroy(&barrier), "destroy");
    return arg;
}

/* Few rounds: on a busy machine, plain threads spin through whole time slices while the thread that
 * holds the lock does not run. */
enum { SPINS = ROUNDS / 8 };

static pthread_spinlock_t spin;
static void *spin_and_count(void *arg)
{
    for (int i = 0; i < SPINS; i++) {
        check(pthread_spin_lock(&spin), "spin");
        enter();
        if (i % 64 == 0)
            sched_yield();
        counter++;
        leave();
        check(pthread_spin_unlock(&spin), "spin");
    }
    return arg;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static once_flag flag = ONCE_FLAG_INIT;
static unsigned times;
static volatile int ready;

static void slow_start(void)
{
    char byte;
    times++;
    for (int i = 0; i < 5; i++)
        if (write(ends[1], "x", 1) != 1 || read(ends[0], &byte, 1) != 1)
            die("read");
    sched_yield();
    ready++;
}

static void *start_once(void *arg)
{
    check(pthread_once(&once, slow_start), "once");
    if (ready < 1)
        wrong("not started yet");
    call_once(&flag, slow_start);
    if (ready < 2)
        wrong("not started yet");
    return arg;
}

static uint32_t word;

static long futex(int operation, uint32_t value)
{
    return syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* The second mutex of Drepper's "Futexes Are Tricky". */
static void *lock_by_futex(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t c = 0;
        if (!__atomic_compare_exchange_n(&word, &c, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            if (c != 2)
                c = __atomic_exchange_n(&word, 2, __ATOMIC_SEQ_CST);
            while (c) {
                if (futex(FUTEX_WAIT, 2) && errno != EAGAIN && errno != EINTR)
                    die("wait");
                c = __atomic_exchange_n(&word, 2, __ATOMIC_SEQ_CST);
            }
        }
        enter();
        if (i % 8 == 0)
            sched_yield();
        counter++;
        leave();
        if (__atomic_exchange_n(&word, 0, __ATOMIC_SEQ_CST) == 2 && futex(FUTEX_WAKE, 1) < 0)
            die("wake");
    }
    return arg;
}

/* A task that is parked when nothing else runs is woken by a plain thread. */
static void *sleeper(void *arg)
{
    if (sem_post(&empty) || sem_wait(&sem))
        die("sem");
    counter++;
    return arg;
}

static void *waker(void *arg)
{
    for (int i = 0; i < 50; i++) {
        while (sem_wait(&empty))
            ;
        if (sem_post(&sem))
            die("sem_post");
    }
    return arg;
}

static void probe(void)
{
    unsigned n = task_options.tasks;
    mutexes(n);
    over_read();
    check(pthread_mutex_init(&mutex, NULL), "init");
    counter = 0;
    all_at_once("C11", lock_c11, n);
    printf("%s\n", counter == (n + THREADS) * ROUNDS ? "all" : "some missing");
    check(pthread_mutex_destroy(&mutex), "destroy");
    conditions(n | 1, 0);
    conditions(5, 1);
    for (int shared = 0; shared < 2; shared++) {
        unsigned few = shared ? 4 : n;
        if (sem_init(&sem, shared, 2))
            die("sem_init");
        counter = 0;
        all_at_once("semaphore", wait_and_post, few);
        printf("%s\n", counter == (few + THREADS) * ROUNDS ? "all" : "some missing");
        sem_destroy(&sem);
    }
    counter = 0;
    all_at_once("readers and writers", read_or_write, n);
    printf("%s\n", counter == (n + THREADS) * ROUNDS / 4 ? "all" : "some missing");
    for (int i = 0; i < 2; i++) {
        all_items = n + THREADS;
        check(pthread_barrier_init(&barrier, NULL, all_items), "barrier");
        memset(phases, 0, sizeof phases);
        serial = 0;
        all_at_once("barrier", meet, n);
        printf("%lu\n", serial);
        check(pthread_barrier_destroy(&barrier), "destroy");
        check(pthread_barrier_init(&barrier, NULL, all_items), "barrier");
        all_at_once("barrier that goes away", meet_and_destroy, n);
        puts("done");
    }
    check(pthread_spin_init(&spin, 0), "spin");
    counter = 0;
    all_at_once("spinning", spin_and_count, n);
    printf("%s\n", counter == (n + THREADS) * SPINS ? "all" : "some missing");
    if (pipe(ends))
        die("pipe");
    all_at_once("once", start_once, n);
    printf("%u\n", times);
    counter = 0;
    all_at_once("futex", lock_by_futex, n);
    printf("%s\n", counter == (n + THREADS) * ROUNDS ? "all" : "some missing");
    counter = 0;
    if (sem_init(&sem, 0, 0) || sem_init(&empty, 0, 0))
        die("sem_init");
    pthread_t thread;
    check(pthread_create(&thread, NULL, waker, NULL), "thread");
    for (int i = 0; i < 50; i++)
        task_join(task_spawn(sleeper, NULL));
    check(pthread_join(thread, NULL), "join");
    printf("woken: %lu\n", counter);
}
