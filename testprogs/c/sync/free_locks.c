/* SPDX-License-Identifier: MIT */
/* free_locks.c - no other task runs while a task acquires and releases free locks. */
#define _GNU_SOURCE
#include "probe.h"

#include <threads.h>
#include <time.h>

enum { ROUNDS = 2000 };

static volatile int stop;
static volatile long turns;

static void *take_turns(void *arg)
{
    while (!stop) {
        turns++;
        task_yield();
    }
    return arg;
}

static const struct timespec FAR = { 1L << 40, 0 };

static pthread_mutex_t mutex;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static mtx_t mtx;

static void lock_mutex(void) { check(pthread_mutex_lock(&mutex), "lock"); }
static void trylock_mutex(void) { check(pthread_mutex_trylock(&mutex), "trylock"); }
static void timedlock_mutex(void) { check(pthread_mutex_timedlock(&mutex, &FAR), "timedlock"); }
static void clocklock_mutex(void)
{
    check(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &FAR), "clocklock");
}
static void unlock_mutex(void) { check(pthread_mutex_unlock(&mutex), "unlock"); }

static void read_lock(void) { check(pthread_rwlock_rdlock(&rwlock), "rdlock"); }
static void try_read_lock(void) { check(pthread_rwlock_tryrdlock(&rwlock), "tryrdlock"); }
static void timed_read_lock(void)
{
    check(pthread_rwlock_timedrdlock(&rwlock, &FAR), "timedrdlock");
}
static void write_lock(void) { check(pthread_rwlock_wrlock(&rwlock), "wrlock"); }
static void try_write_lock(void) { check(pthread_rwlock_trywrlock(&rwlock), "trywrlock"); }
static void timed_write_lock(void)
{
    check(pthread_rwlock_timedwrlock(&rwlock, &FAR), "timedwrlock");
}
static void rw_unlock(void) { check(pthread_rwlock_unlock(&rwlock), "unlock"); }

static void spin_lock(void) { check(pthread_spin_lock(&spin), "spin_lock"); }
static void try_spin_lock(void) { check(pthread_spin_trylock(&spin), "spin_trylock"); }
static void spin_unlock(void) { check(pthread_spin_unlock(&spin), "spin_unlock"); }

static void post(void) { check(sem_post(&sem), "sem_post"); }
static void wait_sem(void) { check(sem_wait(&sem), "sem_wait"); }
static void try_sem(void) { check(sem_trywait(&sem), "sem_trywait"); }
static void timed_sem(void) { check(sem_timedwait(&sem, &FAR), "sem_timedwait"); }

static void lock_mtx(void) { check(mtx_lock(&mtx), "mtx_lock"); }
static void try_mtx(void) { check(mtx_trylock(&mtx), "mtx_trylock"); }
static void unlock_mtx(void) { check(mtx_unlock(&mtx), "mtx_unlock"); }

static void nothing(void) {}
static void once(void)
{
    pthread_once_t control = PTHREAD_ONCE_INIT;
    check(pthread_once(&control, nothing), "pthread_once");
    check(pthread_once(&control, nothing), "pthread_once");
}
static void signal_nobody(void) { check(pthread_cond_signal(&cond), "cond_signal"); }
static void broadcast_to_nobody(void) { check(pthread_cond_broadcast(&cond), "cond_broadcast"); }
static void lock_stream(void) { flockfile(stderr); }
static void unlock_stream(void) { funlockfile(stderr); }

static void twice(const char *what, void (*first)(void), void (*second)(void))
{
    task_yield();
    long before = turns;
    for (int i = 0; i < ROUNDS; i++) {
        first();
        second();
    }
    /* A thread may be preempted anywhere. */
    printf("%s: others had %ld turns\n", what, task_options.threads ? 0 : turns - before);
}

static void mutexes(const char *kind, int type, int robust, int protocol)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setrobust(&attributes, robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    check(pthread_mutex_init(&mutex, &attributes), "mutex_init");
    puts(kind);
    twice("lock", lock_mutex, unlock_mutex);
    twice("trylock", trylock_mutex, unlock_mutex);
    twice("timedlock", timedlock_mutex, unlock_mutex);
    if (protocol == PTHREAD_PRIO_NONE)
        twice("clocklock", clocklock_mutex, unlock_mutex);
}

static void probe(void)
{
    task_t other = task_spawn(take_turns, NULL);
    check(pthread_spin_init(&spin, 0), "spin_init");
    check(sem_init(&sem, 0, 0), "sem_init");
    check(mtx_init(&mtx, mtx_plain), "mtx_init");
    mutexes("normal", PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE);
    mutexes("recursive", PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_NONE);
    mutexes("error-checking", PTHREAD_MUTEX_ERRORCHECK, 0, PTHREAD_PRIO_NONE);
    mutexes("robust", PTHREAD_MUTEX_NORMAL, 1, PTHREAD_PRIO_NONE);
    mutexes("inheriting", PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_INHERIT);
    twice("rdlock", read_lock, rw_unlock);
    twice("tryrdlock", try_read_lock, rw_unlock);
    twice("timedrdlock", timed_read_lock, rw_unlock);
    twice("wrlock", write_lock, rw_unlock);
    twice("trywrlock", try_write_lock, rw_unlock);
    twice("timedwrlock", timed_write_lock, rw_unlock);
    twice("spin_lock", spin_lock, spin_unlock);
    twice("spin_trylock", try_spin_lock, spin_unlock);
    twice("sem_wait", post, wait_sem);
    twice("sem_trywait", post, try_sem);
    twice("sem_timedwait", post, timed_sem);
    twice("mtx_lock", lock_mtx, unlock_mtx);
    twice("mtx_trylock", try_mtx, unlock_mtx);
    twice("once", once, once);
    twice("signals", signal_nobody, broadcast_to_nobody);
    twice("flockfile", lock_stream, unlock_stream);
    stop = 1;
    task_join(other);
}
