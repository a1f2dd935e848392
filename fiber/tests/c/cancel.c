/* SPDX-License-Identifier: MIT */
/* Cancellation. A cancelled wait that is a cancellation point ends without effect; the cleanup
 * handlers and key destructors run in order. A wait that is not a cancellation point continues. */
#include "expect.h"

static fiber_mutex_t mutex = FIBER_MUTEX_INITIALIZER;
static fiber_cond_t cond = FIBER_COND_INITIALIZER;
static fiber_sem_t sem, never, ready;
static fiber_key_t key;
static char trail[64]; /* records what ran, in order; used by one fiber at a time */

static void note(void *what) { strcat(trail, what); }

static void note_and_unlock(void *what)
{
    IS(fiber_mutex_unlock(&mutex), 0); /* the cancelled wait locked it again before this runs */
    note(what);
}

static void destroy(void *what) { note(what); }

static void expect(const char *what)
{
    if (strcmp(trail, what)) {
        fprintf(stderr, "the trail is %s; expected %s\n", trail, what);
        _exit(1);
    }
    trail[0] = 0;
}

static fiber_t *start(void *(*fn)(void *))
{
    fiber_t *f;
    IS(fiber_create(&f, NULL, fn, fiber_self()), 0);
    IS(fiber_sem_wait(&ready), 0);
    /* On this worker, the fiber has parked once all others had their turn. On another worker, it
     * may still be about to park. */
    for (int i = 0; i < 4; i++)
        fiber_yield();
    return f;
}

static void ends_cancelled_at(fiber_t *f, int line)
{
    void *result = NULL;
    IS(fiber_join(f, &result), 0);
    if (result != FIBER_CANCELED) {
        fprintf(stderr, "%s:%d: the fiber was not cancelled; the trail is %s\n", __FILE__, line,
                trail);
        _exit(1);
    }
}
#define ends_cancelled(f) ends_cancelled_at(f, __LINE__)

static void *in_sem(void *arg)
{
    fiber_setspecific(key, "k");
    fiber_cleanup_push(note, "a");
    fiber_cleanup_push(note, "b");
    fiber_cleanup_push(note, "never");
    fiber_cleanup_pop(0);
    fiber_cleanup_push(note, "c");
    fiber_cleanup_pop(1);
    fiber_sem_post(&ready);
    fiber_sem_wait(&never);
    note("not here");
    fiber_cleanup_pop(0);
    fiber_cleanup_pop(0);
    return arg;
}

static void *in_timed_sem(void *arg)
{
    struct timespec late = at(CLOCK_MONOTONIC, 3600 * 1000);
    fiber_sem_post(&ready);
    fiber_sem_clockwait(&never, CLOCK_MONOTONIC, &late);
    return arg;
}

static void *in_cond(void *arg)
{
    IS(fiber_mutex_lock(&mutex), 0);
    fiber_cleanup_push(note_and_unlock, "u");
    fiber_sem_post(&ready);
    fiber_cond_wait(&cond, &mutex);
    fiber_cleanup_pop(1);
    return arg;
}

static void *in_sleep(void *arg)
{
    fiber_sem_post(&ready);
    fiber_sleep(UINT64_MAX);
    return arg;
}

static fiber_t *target;
static void *in_join(void *arg)
{
    fiber_sem_post(&ready);
    fiber_join(target, NULL);
    return arg;
}

static void *is_joined(void *arg)
{
    IS(fiber_sem_wait(&sem), 0);
    return arg;
}

static int spins = 1;
static void *in_testcancel(void *arg)
{
    fiber_sem_post(&ready);
    while (__atomic_load_n(&spins, __ATOMIC_RELAXED)) {
        fiber_yield(); /* not a cancellation point */
        fiber_testcancel();
    }
    return arg;
}

/* Waits that are not cancellation points: the request stays pending until the cancellation point
 * after them. */
static void *in_mutex(void *arg)
{
    fiber_sem_post(&ready);
    IS(fiber_mutex_lock(&mutex), 0);
    note("m");
    IS(fiber_mutex_unlock(&mutex), 0);
    fiber_testcancel();
    note("not here");
    return arg;
}

static fiber_barrier_t barrier;
static void *in_barrier(void *arg)
{
    fiber_sem_post(&ready);
    fiber_barrier_wait(&barrier);
    note("w");
    fiber_testcancel();
    return arg;
}

static void *disabled(void *arg)
{
    int old = -1;
    IS(fiber_setcancelstate(FIBER_CANCEL_DISABLE, &old), 0);
    IS(old, FIBER_CANCEL_ENABLE);
    fiber_sem_post(&ready);
    IS(fiber_sem_wait(&sem), 0);
    fiber_testcancel();
    note("d");
    IS(fiber_setcancelstate(FIBER_CANCEL_ENABLE, &old), 0);
    IS(old, FIBER_CANCEL_DISABLE);
    note("e");            /* enabling is no cancellation point */
    fiber_sem_wait(&sem); /* is one even if a unit is available */
    note("not here");
    return arg;
}

/* A handler that waits is not cancelled again. */
static void wait_in_handler(void *arg)
{
    IS(fiber_sem_wait(&sem), 0);
    fiber_testcancel();
    note(arg);
}

static void *handler_waits(void *arg)
{
    fiber_cleanup_push(wait_in_handler, "h");
    fiber_sem_post(&ready);
    fiber_sem_wait(&never);
    fiber_cleanup_pop(0);
    return arg;
}

static void *cancels_itself(void *arg)
{
    IS(fiber_cancel(fiber_self()), 0);
    note("s");
    fiber_sleep(0);
    note("not here");
    return arg;
}

static void *exits(void *arg)
{
    fiber_setspecific(key, "k");
    fiber_cleanup_push(note, "x");
    fiber_exit(arg);
    fiber_cleanup_pop(0);
    return NULL;
}

static void *ends(void *arg) { return arg; }

static void waits(void)
{
    fiber_t *f = start(in_sem);
    IS(fiber_cancel(f), 0);
    ends_cancelled(f);
    expect("cbak");
    f = start(in_timed_sem);
    IS(fiber_cancel(f), 0);
    ends_cancelled(f);
    int value = -1;
    IS(fiber_sem_getvalue(&never, &value), 0);
    IS(value, 0);
    IS(fiber_sem_destroy(&never), 0); /* its wait queue is empty */
    IS(fiber_sem_init(&never, 0, 0), 0);
    f = start(in_cond);
    IS(fiber_cancel(f), 0);
    ends_cancelled(f);
    expect("u");
    IS(fiber_cond_destroy(&cond), 0);
    IS(fiber_mutex_trylock(&mutex), 0);
    IS(fiber_mutex_unlock(&mutex), 0);
    f = start(in_sleep);
    IS(fiber_cancel(f), 0);
    ends_cancelled(f);
    f = start(in_testcancel);
    IS(fiber_cancel(f), 0);
    ends_cancelled(f);
}

/* After a join was cancelled, another fiber can still join the target. */
static void joins(void)
{
    void *result;
    IS(fiber_create(&target, NULL, is_joined, &target), 0);
    fiber_t *f = start(in_join);
    IS(fiber_cancel(f), 0);
    ends_cancelled(f);
    IS(fiber_sem_post(&sem), 0);
    IS(fiber_join(target, &result), 0);
    CHECK(result == &target);
}

static void not_points(void)
{
    IS(fiber_mutex_lock(&mutex), 0);
    fiber_t *f = start(in_mutex);
    IS(fiber_cancel(f), 0);
    for (int i = 0; i < 8; i++)
        fiber_yield();
    expect("");
    IS(fiber_mutex_unlock(&mutex), 0);
    ends_cancelled(f);
    expect("m");
    IS(fiber_barrier_init(&barrier, NULL, 2), 0);
    f = start(in_barrier);
    IS(fiber_cancel(f), 0);
    fiber_barrier_wait(&barrier);
    ends_cancelled(f);
    expect("w");
}

static void states(void)
{
    fiber_t *f = start(disabled);
    IS(fiber_cancel(f), 0);
    IS(fiber_sem_post(&sem), 0);
    IS(fiber_sem_post(&sem), 0);
    ends_cancelled(f);
    expect("de");
    IS(fiber_sem_trywait(&sem), 0); /* the cancelled wait took no unit */
    f = start(handler_waits);
    IS(fiber_cancel(f), 0);
    IS(fiber_cancel(f), 0);
    IS(fiber_sem_post(&sem), 0);
    ends_cancelled(f);
    expect("h");
    IS(fiber_create(&f, NULL, cancels_itself, NULL), 0);
    ends_cancelled(f);
    expect("s");
    void *result;
    IS(fiber_create(&f, NULL, exits, &f), 0);
    IS(fiber_join(f, &result), 0);
    CHECK(result == &f);
    expect("xk");
    /* A fiber that has not started yet runs to its first cancellation point, or to its end if it
     * has none. */
    IS(fiber_create(&f, NULL, cancels_itself, NULL), 0);
    IS(fiber_cancel(f), 0);
    ends_cancelled(f);
    expect("s");
    IS(fiber_create(&f, NULL, ends, &f), 0);
    IS(fiber_cancel(f), 0);
    IS(fiber_join(f, &result), 0);
    CHECK(result == &f);
    IS(fiber_cancel(f), ESRCH);
    IS(fiber_cancel(NULL), ESRCH);
}

static void errors(void)
{
    int old;
    IS(fiber_setcancelstate(7, &old), EINVAL);
    IS(fiber_setcanceltype(FIBER_CANCEL_ASYNCHRONOUS, &old), ENOTSUP);
    IS(fiber_setcanceltype(7, &old), EINVAL);
    old = -1;
    IS(fiber_setcanceltype(FIBER_CANCEL_DEFERRED, &old), 0);
    IS(old, FIBER_CANCEL_DEFERRED);
    IS(fiber_setcancelstate(FIBER_CANCEL_ENABLE, NULL), 0);
}

/* Posts and cancellations race. Each unit is either taken by a waiter that returns, or still
 * available. */
static int taken;
static void *takes(void *arg)
{
    if (fiber_sem_wait(&sem) == 0)
        __atomic_add_fetch(&taken, 1, __ATOMIC_RELAXED);
    return arg;
}
static void *posts(void *arg)
{
    IS(fiber_sem_post(&sem), 0);
    return arg;
}

static void race(void)
{
    enum { N = 64, ROUNDS = 50 };
    for (int round = 0; round < ROUNDS; round++) {
        fiber_t *takers[N], *posters[N];
        taken = 0;
        for (int i = 0; i < N; i++)
            IS(fiber_create(&takers[i], NULL, takes, NULL), 0);
        for (int i = 0; i < N; i++) {
            IS(fiber_create(&posters[i], NULL, posts, NULL), 0);
            if (i % 2)
                IS(fiber_cancel(takers[i]), 0);
            if (i % 8 == 0)
                fiber_yield();
        }
        int cancelled = 0, left = 0;
        for (int i = 0; i < N; i++) {
            void *result;
            IS(fiber_join(posters[i], NULL), 0);
            IS(fiber_join(takers[i], &result), 0);
            cancelled += result == FIBER_CANCELED;
        }
        IS(taken + cancelled, N);
        IS(fiber_sem_getvalue(&sem, &left), 0);
        IS(left, N - taken);
        while (left--)
            IS(fiber_sem_trywait(&sem), 0);
    }
}

static void *all(void *arg)
{
    IS(fiber_key_create(&key, destroy), 0);
    IS(fiber_sem_init(&sem, 0, 0), 0);
    IS(fiber_sem_init(&never, 0, 0), 0);
    IS(fiber_sem_init(&ready, 0, 0), 0);
    waits();
    joins();
    not_points();
    states();
    errors();
    race();
    return arg;
}

int main(void)
{
    IS(fiber_cancel(NULL), EPERM);
    IS(fiber_setcancelstate(FIBER_CANCEL_DISABLE, NULL), EPERM);
    IS(fiber_setcanceltype(FIBER_CANCEL_DEFERRED, NULL), EPERM);
    fiber_testcancel();
    int ran = 0;
    fiber_cleanup_push(note, "p");
    fiber_cleanup_pop(1);
    expect("p");
    return run(all) + ran;
}
