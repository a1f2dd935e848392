/* SPDX-License-Identifier: MIT */
/* Error numbers follow the pthread conventions, on and off a fiber. */
#include "expect.h"

static void *nothing(void *arg) { return arg; }

static fiber_t *main_fiber, *partner;
static void *join_main(void *arg)
{
    (void)arg;
    IS(fiber_join(main_fiber, NULL), EDEADLK); /* main is already joining this fiber */
    return NULL;
}

static void *park_forever(void *arg)
{
    IS(fiber_sem_wait(arg), 0);
    return NULL;
}

static int answered; /* number of joins that have returned */
static void *join_partner(void *arg)
{
    int error = fiber_join(partner, arg);
    __atomic_add_fetch(&answered, 1, __ATOMIC_RELEASE);
    return (void *)(intptr_t)error;
}

static void fibers(void)
{
    fiber_t *f, *g;
    void *ret;
    fiber_sem_t sem;
    fiber_attr_t attr = FIBER_ATTR_INIT;

    IS(fiber_join(fiber_self(), NULL), EDEADLK);
    IS(fiber_join(NULL, NULL), ESRCH);
    IS(fiber_create(&f, NULL, nothing, &f), 0);
    IS(fiber_join(f, &ret), 0);
    CHECK(ret == &f);
    IS(fiber_join(f, NULL), ESRCH);
    IS(fiber_detach(f), ESRCH);
    IS(fiber_id(f), 0);
    IS(fiber_setname(f, "x"), ESRCH);
    IS(fiber_getname(f, (char[16]){ 0 }, 16), ESRCH);

    IS(fiber_sem_init(&sem, 0, 0), 0);
    IS(fiber_create(&f, NULL, park_forever, &sem), 0);
    IS(fiber_detach(f), 0);
    IS(fiber_detach(f), EINVAL);
    IS(fiber_join(f, NULL), EINVAL);
    IS(fiber_sem_post(&sem), 0);
    while (fiber_id(f))
        fiber_yield();
    IS(fiber_join(f, NULL), ESRCH);

    /* Two fibers join the same one. The second, whichever it is, fails at once. */
    IS(fiber_create(&partner, NULL, park_forever, &sem), 0);
    IS(fiber_create(&f, NULL, join_partner, NULL), 0);
    IS(fiber_create(&g, NULL, join_partner, NULL), 0);
    while (!__atomic_load_n(&answered, __ATOMIC_ACQUIRE))
        fiber_yield();
    IS(fiber_sem_post(&sem), 0);
    IS(fiber_join(g, &ret), 0);
    void *first = ret;
    IS(fiber_join(f, &ret), 0);
    IS((intptr_t)first + (intptr_t)ret, EINVAL); /* one result is 0, the other EINVAL */

    main_fiber = fiber_self();
    IS(fiber_create(&f, NULL, join_main, NULL), 0);
    IS(fiber_join(f, NULL), 0);

    IS(fiber_create(&f, NULL, NULL, NULL), EINVAL);
    attr.stack_size = 1;
    IS(fiber_create(&f, &attr, nothing, NULL), EINVAL);
    attr = (fiber_attr_t){ 3, 0, NULL, 0 };
    IS(fiber_create(&f, &attr, nothing, NULL), EINVAL);
    IS(fiber_run(NULL, nothing, NULL, NULL), EBUSY);
}

static void names(void)
{
    fiber_t *f;
    char buf[16];
    fiber_attr_t attr = FIBER_ATTR_INIT;

    attr.name = "sixteen letters!";
    IS(fiber_create(&f, &attr, nothing, NULL), 0);
    IS(fiber_getname(f, buf, sizeof buf), 0);
    IS(strcmp(buf, "sixteen letters"), 0);
    IS(fiber_setname(f, "sixteen letters!"), ERANGE);
    IS(fiber_setname(f, "short"), 0);
    IS(fiber_getname(f, buf, 5), ERANGE);
    IS(fiber_getname(f, buf, 6), 0);
    IS(strcmp(buf, "short"), 0);
    IS(fiber_join(f, NULL), 0);
    IS(fiber_setname(NULL, "me"), 0);
    IS(fiber_getname(fiber_self(), buf, sizeof buf), 0);
    IS(strcmp(buf, "me"), 0);
}

static void *unlock_it(void *m) { return (void *)(intptr_t)fiber_mutex_unlock(m); }

static void mutexes(void)
{
    fiber_mutexattr_t a;
    fiber_mutex_t m = FIBER_MUTEX_INITIALIZER, r, e;
    fiber_t *f;
    void *ret;
    int type;

    IS(fiber_mutex_lock(&m), 0);
    IS(fiber_mutex_trylock(&m), EBUSY);
    IS(fiber_mutex_destroy(&m), EBUSY);
    IS(fiber_create(&f, NULL, unlock_it, &m), 0);
    IS(fiber_join(f, &ret), 0);
    IS((intptr_t)ret, EPERM);
    IS(fiber_mutex_unlock(&m), 0);
    IS(fiber_mutex_unlock(&m), EPERM);
    IS(fiber_mutex_destroy(&m), 0);

    IS(fiber_mutexattr_init(&a), 0);
    IS(fiber_mutexattr_gettype(&a, &type), 0);
    IS(type, FIBER_MUTEX_DEFAULT);
    IS(fiber_mutexattr_settype(&a, 7), EINVAL);
    IS(fiber_mutexattr_settype(&a, FIBER_MUTEX_RECURSIVE), 0);
    IS(fiber_mutex_init(&r, &a), 0);
    IS(fiber_mutex_lock(&r), 0);
    IS(fiber_mutex_lock(&r), 0);
    IS(fiber_mutex_trylock(&r), 0);
    IS(fiber_mutex_unlock(&r), 0);
    IS(fiber_mutex_unlock(&r), 0);
    IS(fiber_mutex_destroy(&r), EBUSY);
    IS(fiber_mutex_unlock(&r), 0);
    IS(fiber_mutex_unlock(&r), EPERM);

    /* A wait on a condition variable unlocks the mutex completely, and afterwards locks it as many
     * times again. */
    fiber_cond_t c = FIBER_COND_INITIALIZER;
    struct timespec soon = at(CLOCK_REALTIME, 1);
    IS(fiber_mutex_lock(&r), 0);
    IS(fiber_mutex_lock(&r), 0);
    IS(fiber_cond_timedwait(&c, &r, &soon), ETIMEDOUT);
    IS(fiber_mutex_unlock(&r), 0);
    IS(fiber_mutex_unlock(&r), 0);
    IS(fiber_mutex_unlock(&r), EPERM);
    IS(fiber_mutexattr_settype(&a, FIBER_MUTEX_ERRORCHECK), 0);
    IS(fiber_mutex_init(&e, &a), 0);
    IS(fiber_mutex_lock(&e), 0);
    IS(fiber_mutex_lock(&e), EDEADLK);
    IS(fiber_mutex_unlock(&e), 0);
    IS(fiber_mutexattr_destroy(&a), 0);
}

static void *hold(void *arg)
{
    void **both = arg; /* a mutex and a semaphore */
    IS(fiber_mutex_lock(both[0]), 0);
    IS(fiber_sem_wait(both[1]), 0);
    IS(fiber_mutex_unlock(both[0]), 0);
    return NULL;
}

static int is_over(int clock, struct timespec time)
{
    struct timespec now = at(clock, 0);
    return now.tv_sec != time.tv_sec ? now.tv_sec > time.tv_sec : now.tv_nsec >= time.tv_nsec;
}

static void deadlines(void)
{
    fiber_mutex_t m = FIBER_MUTEX_INITIALIZER;
    fiber_cond_t c = FIBER_COND_INITIALIZER;
    fiber_rwlock_t l = FIBER_RWLOCK_INITIALIZER;
    fiber_sem_t s;
    fiber_t *f;
    struct timespec real = at(CLOCK_REALTIME, 2), mono = at(CLOCK_MONOTONIC, 2),
                    bad = { 0, 1000000000 };

    IS(fiber_sem_init(&s, 0, 0), 0);
    IS(fiber_sem_timedwait(&s, &real), ETIMEDOUT);
    IS(is_over(CLOCK_REALTIME, real), 1);
    IS(fiber_sem_clockwait(&s, CLOCK_MONOTONIC, &mono), ETIMEDOUT);
    IS(is_over(CLOCK_MONOTONIC, mono), 1);
    IS(fiber_sem_clockwait(&s, CLOCK_BOOTTIME, &mono), EINVAL);
    IS(fiber_sem_timedwait(&s, &bad), EINVAL);
    IS(fiber_sem_post(&s), 0);
    IS(fiber_sem_timedwait(&s, &bad), 0); /* not checked if the call does not wait */

    IS(fiber_create(&f, NULL, hold, (void *[]){ &m, &s }), 0);
    while (fiber_mutex_trylock(&m) == 0) {
        fiber_mutex_unlock(&m);
        fiber_yield();
    }
    real = at(CLOCK_REALTIME, 2), mono = at(CLOCK_MONOTONIC, 2);
    IS(fiber_mutex_timedlock(&m, &real), ETIMEDOUT);
    IS(fiber_mutex_clocklock(&m, CLOCK_MONOTONIC, &mono), ETIMEDOUT);
    IS(fiber_mutex_clocklock(&m, 99, &mono), EINVAL);
    IS(fiber_sem_post(&s), 0);
    IS(fiber_join(f, NULL), 0);

    IS(fiber_cond_timedwait(&c, &m, &real), EPERM);
    IS(fiber_mutex_lock(&m), 0);
    IS(fiber_cond_timedwait(&c, &m, &real), ETIMEDOUT);
    IS(fiber_cond_clockwait(&c, &m, CLOCK_MONOTONIC, &mono), ETIMEDOUT);
    IS(fiber_mutex_unlock(&m), 0); /* it was locked again after the timeout */
    IS(fiber_cond_destroy(&c), 0);

    IS(fiber_rwlock_rdlock(&l), 0);
    IS(fiber_rwlock_timedwrlock(&l, &real), ETIMEDOUT);
    IS(fiber_rwlock_clockwrlock(&l, CLOCK_MONOTONIC, &mono), ETIMEDOUT);
    IS(fiber_rwlock_timedrdlock(&l, &real), 0);
    IS(fiber_rwlock_clockrdlock(&l, CLOCK_MONOTONIC, &mono), 0);
    for (int i = 0; i < 3; i++)
        IS(fiber_rwlock_unlock(&l), 0);
    IS(fiber_rwlock_unlock(&l), EPERM);
    IS(fiber_rwlock_wrlock(&l), 0);
    IS(fiber_rwlock_rdlock(&l), EDEADLK);
    IS(fiber_rwlock_wrlock(&l), EDEADLK);
    IS(fiber_rwlock_tryrdlock(&l), EBUSY);
    IS(fiber_rwlock_trywrlock(&l), EBUSY);
    IS(fiber_rwlock_destroy(&l), EBUSY);
    IS(fiber_rwlock_unlock(&l), 0);
    IS(fiber_rwlock_destroy(&l), 0);
}

static void the_rest(void)
{
    fiber_sem_t s;
    fiber_barrier_t b;
    fiber_cond_t c;
    fiber_rwlock_t l;
    int value;

    IS(fiber_sem_init(&s, 1, 0), ENOSYS);
    IS(fiber_sem_init(&s, 0, FIBER_SEM_VALUE_MAX + 1u), EINVAL);
    IS(fiber_sem_init(&s, 0, FIBER_SEM_VALUE_MAX), 0);
    IS(fiber_sem_post(&s), EOVERFLOW);
    IS(fiber_sem_getvalue(&s, &value), 0);
    IS(value, FIBER_SEM_VALUE_MAX);
    IS(fiber_sem_destroy(&s), 0);
    IS(fiber_sem_init(&s, 0, 0), 0);
    IS(fiber_sem_trywait(&s), EAGAIN);
    IS(fiber_barrier_init(&b, NULL, 0), EINVAL);
    IS(fiber_barrier_init(&b, &b, 1), EINVAL);
    IS(fiber_barrier_init(&b, NULL, 1), 0);
    IS(fiber_barrier_wait(&b), FIBER_BARRIER_SERIAL_FIBER);
    IS(fiber_barrier_destroy(&b), 0);
    IS(fiber_cond_init(&c, &c), EINVAL);
    IS(fiber_rwlock_init(&l, &l), EINVAL);
    IS(fiber_mutex_lock(NULL), EINVAL);
}

static void once_fn(void) { CHECK(0); }

static void off_a_fiber(void)
{
    fiber_mutex_t m = FIBER_MUTEX_INITIALIZER;
    fiber_cond_t c = FIBER_COND_INITIALIZER;
    fiber_rwlock_t l = FIBER_RWLOCK_INITIALIZER;
    fiber_once_t o = FIBER_ONCE_INIT;
    fiber_barrier_t b;
    fiber_sem_t s;
    fiber_t *f;
    fiber_key_t key;

    CHECK(fiber_self() == NULL);
    IS(fiber_create(&f, NULL, nothing, NULL), EPERM);
    IS(fiber_join((fiber_t *)0, NULL), EPERM);
    IS(fiber_sleep(1), EPERM);
    IS(fiber_mutex_lock(&m), EPERM);
    IS(fiber_mutex_trylock(&m), EPERM);
    IS(fiber_mutex_unlock(&m), EPERM);
    IS(fiber_cond_wait(&c, &m), EPERM);
    IS(fiber_cond_signal(&c), 0);
    IS(fiber_cond_broadcast(&c), 0);
    IS(fiber_rwlock_rdlock(&l), EPERM);
    IS(fiber_rwlock_unlock(&l), EPERM);
    IS(fiber_once(&o, once_fn), EPERM);
    IS(fiber_barrier_init(&b, NULL, 1), 0);
    IS(fiber_barrier_wait(&b), EPERM);
    IS(fiber_sem_init(&s, 0, 0), 0);
    IS(fiber_sem_wait(&s), EPERM);
    IS(fiber_sem_post(&s), 0);
    IS(fiber_sem_trywait(&s), 0);
    IS(fiber_key_create(&key, NULL), 0);
    IS(fiber_setspecific(key, &key), EPERM);
    CHECK(fiber_getspecific(key) == NULL);
    IS(fiber_key_delete(key), 0);
    IS(fiber_key_delete(key), EINVAL);
    fiber_yield();
    fiber_exit(NULL);
    IS(fiber_setname(NULL, "x"), ESRCH);
    IS(fiber_detach(NULL), ESRCH);
}

static void *all(void *arg)
{
    fibers();
    names();
    mutexes();
    deadlines();
    the_rest();
    return arg;
}

int main(void)
{
    fiber_options_t opt = FIBER_OPTIONS_INIT;
    void *ret = NULL;

    IS(fiber_version(), FIBER_VERSION_MAJOR << 16 | FIBER_VERSION_MINOR << 8 | FIBER_VERSION_PATCH);
    off_a_fiber();
    IS(fiber_run(NULL, NULL, NULL, NULL), EINVAL);
    opt.workers = 100000;
    IS(fiber_run(&opt, all, NULL, NULL), EINVAL);
    opt = (fiber_options_t){ 1, 0, 0 };
    IS(fiber_run(&opt, all, NULL, NULL), EINVAL);
    opt = (fiber_options_t){ sizeof opt, 0, 77 };
    IS(fiber_run(&opt, all, NULL, NULL), EINVAL);
    IS(fiber_run(NULL, all, &opt, &ret), 0);
    CHECK(ret == &opt);
    off_a_fiber();
    return 0;
}
