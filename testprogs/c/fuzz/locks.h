/* SPDX-License-Identifier: MIT */
/* locks.h - the scene "locks": locks exclude each other, no wake-up is lost, and a queue with
 * condition variables delivers each item once. */
#ifndef FUZZ_LOCKS_H
#define FUZZ_LOCKS_H

#include <sys/file.h>

#include "case.h"

enum { LOCK_KINDS = 5, LOCK_TASKS = 5, LOCK_ITEMS = 60, LOCK_ROOM = 4 };

struct locks {
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
    pthread_spinlock_t spin;
    task_mutex_t own;
    char path[64];
    volatile unsigned counts[LOCK_KINDS]; /* one per lock */
    unsigned expected[LOCK_KINDS];
    /* A bounded queue. */
    pthread_mutex_t queue_mutex;
    pthread_cond_t not_empty, not_full;
    unsigned queue[LOCK_ROOM], head, tail, made, taken[LOCK_ITEMS];
};

/* Reads, lets others run, and writes: without the lock, increments would be lost. */
static void add_slowly(struct actor *self, volatile unsigned *count, int may_wait)
{
    unsigned seen = *count;
    switch (may_wait ? below(self, 4) : 3) {
    case 0: task_yield(); break;
    case 1: rest(self, 20); break;
    default: break;
    }
    *count = seen + 1;
}

static void lock_and_add(struct actor *self, struct locks *l, unsigned kind, int file)
{
    struct timespec deadline;
    int error;
    enter_call(self, "lock", (int)kind);
    switch (kind) {
    case 0: check(pthread_mutex_lock(&l->mutex), "pthread_mutex_lock"); break;
    case 1:
        do {
            clock_gettime(CLOCK_REALTIME, &deadline);
            deadline.tv_nsec += 500000;
            if (deadline.tv_nsec >= 1000000000) {
                deadline.tv_sec++;
                deadline.tv_nsec -= 1000000000;
            }
            error = pthread_rwlock_timedwrlock(&l->rwlock, &deadline);
        } while (error == ETIMEDOUT);
        check(error, "pthread_rwlock_timedwrlock");
        break;
    case 2: check(pthread_spin_lock(&l->spin), "pthread_spin_lock"); break;
    case 3: task_lock(&l->own); break;
    default: MUST(self, file, flock(file, LOCK_EX));
    }
    self->call = NULL;
    /* The holder of a spin lock must not wait. */
    add_slowly(self, &l->counts[kind], kind != 2);
    switch (kind) {
    case 0: check(pthread_mutex_unlock(&l->mutex), "pthread_mutex_unlock"); break;
    case 1: check(pthread_rwlock_unlock(&l->rwlock), "pthread_rwlock_unlock"); break;
    case 2: check(pthread_spin_unlock(&l->spin), "pthread_spin_unlock"); break;
    case 3: task_unlock(&l->own); break;
    default: MUST(self, file, flock(file, LOCK_UN));
    }
}

static void lock_task(struct actor *self, void *data)
{
    struct locks *l = data;
    int file = (int)MUST(self, -1, open(l->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    for (unsigned n = between(self, 5, 25); n > 0; n--) {
        unsigned kind = below(self, LOCK_KINDS);
        lock_and_add(self, l, kind, file);
        __atomic_fetch_add(&l->expected[kind], 1, __ATOMIC_RELAXED);
    }
    close_fd(self, file);
}

/* ---- The queue ------------------------------------------------------------------------------ */

static void producer(struct actor *self, void *data)
{
    struct locks *l = data;
    for (int more = 1; more;) {
        check(pthread_mutex_lock(&l->queue_mutex), "pthread_mutex_lock");
        enter_call(self, "cond_wait for room", -1);
        while (l->tail - l->head == LOCK_ROOM && l->made < LOCK_ITEMS)
            check(pthread_cond_wait(&l->not_full, &l->queue_mutex), "pthread_cond_wait");
        self->call = NULL;
        more = l->made < LOCK_ITEMS;
        if (more)
            l->queue[l->tail++ % LOCK_ROOM] = l->made++;
        check(more ? pthread_cond_signal(&l->not_empty) : pthread_cond_broadcast(&l->not_empty),
              "pthread_cond_signal");
        if (!more)
            check(pthread_cond_broadcast(&l->not_full), "pthread_cond_broadcast");
        check(pthread_mutex_unlock(&l->queue_mutex), "pthread_mutex_unlock");
        if (chance(self, 20))
            task_yield();
    }
}

static void consumer(struct actor *self, void *data)
{
    struct locks *l = data;
    for (int more = 1; more;) {
        check(pthread_mutex_lock(&l->queue_mutex), "pthread_mutex_lock");
        enter_call(self, "cond_wait for an item", -1);
        while (l->tail == l->head && l->made < LOCK_ITEMS)
            check(pthread_cond_wait(&l->not_empty, &l->queue_mutex), "pthread_cond_wait");
        self->call = NULL;
        more = l->tail != l->head;
        if (more)
            l->taken[l->queue[l->head++ % LOCK_ROOM]]++;
        check(pthread_cond_signal(&l->not_full), "pthread_cond_signal");
        check(pthread_mutex_unlock(&l->queue_mutex), "pthread_mutex_unlock");
        if (chance(self, 10))
            rest(self, 50);
    }
}

static void locks_scene(struct actor *self, void *unused)
{
    (void)unused;
    struct locks *l = allocate(sizeof *l);
    struct actor *actors[LOCK_TASKS + 4];
    unsigned count = 0;
    snprintf(l->path, sizeof l->path, "lock.%u", self->index);
    check(pthread_mutex_init(&l->mutex, NULL), "pthread_mutex_init");
    check(pthread_rwlock_init(&l->rwlock, NULL), "pthread_rwlock_init");
    check(pthread_spin_init(&l->spin, PTHREAD_PROCESS_PRIVATE), "pthread_spin_init");
    check(pthread_mutex_init(&l->queue_mutex, NULL), "pthread_mutex_init");
    check(pthread_cond_init(&l->not_empty, NULL), "pthread_cond_init");
    check(pthread_cond_init(&l->not_full, NULL), "pthread_cond_init");
    task_mutex_init(&l->own);
    for (unsigned i = between(self, 2, LOCK_TASKS); i > 0; i--)
        actors[count++] = start(self, lock_task, l);
    for (unsigned i = 0; i < 2; i++) {
        actors[count++] = start(self, producer, l);
        actors[count++] = start(self, consumer, l);
    }
    for (unsigned i = 0; i < count; i++)
        finish(self, actors[i]);
    for (unsigned k = 0; k < LOCK_KINDS; k++)
        REQUIRE(self, l->counts[k] == l->expected[k], "lock %u let %u of %u additions be lost", k,
                l->expected[k] - l->counts[k], l->expected[k]);
    for (unsigned i = 0; i < LOCK_ITEMS; i++)
        REQUIRE(self, l->taken[i] == 1, "item %u was taken %u times", i, l->taken[i]);
    MUST(self, -1, unlink(l->path));
    free(l);
}

#endif
