/* SPDX-License-Identifier: MIT */
/* lock_results.c - the results of every call on locks: each type of mutex, conditions, semaphores,
 * read-write locks, barriers, once, the C11 forms, and their timeouts. */
#define _GNU_SOURCE
#include "probe.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/futex.h>
#include <threads.h>
#include <time.h>

/* Prints the meaning of an error number. */
static void say(const char *what, int error)
{
    printf("%s: %s%s\n", what, error ? strerror(error) : "ok",
           errno == ERRNO_UNTOUCHED ? "" : ", errno changed");
}
#define TRY(call)                \
    __extension__({              \
        errno = ERRNO_UNTOUCHED; \
        int try_error = (call);  \
        say(#call, try_error);   \
        try_error;               \
    })

static const struct timespec past = { 1, 0 }, bad = { 1, 1000000000 }, negative = { -5, 0 };

static struct timespec soon(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    if ((t.tv_nsec += 3000000) >= 1000000000)
        t.tv_nsec -= 1000000000, t.tv_sec++;
    return t;
}

static pthread_mutex_t mutex;
static pthread_cond_t cond;
static pthread_rwlock_t rwlock;
static sem_t sem;

/* The results that another task gets while the first one holds the mutex. */
static void *other_task(void *arg)
{
    struct timespec limit = soon(CLOCK_REALTIME), monotonic = soon(CLOCK_MONOTONIC);
    TRY(pthread_mutex_trylock(&mutex));
    TRY(pthread_mutex_timedlock(&mutex, &limit));
    TRY(pthread_mutex_timedlock(&mutex, &past));
    TRY(pthread_mutex_timedlock(&mutex, &negative));
    TRY(pthread_mutex_timedlock(&mutex, &bad));
    TRY(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &monotonic));
    TRY(pthread_mutex_clocklock(&mutex, CLOCK_BOOTTIME, &monotonic));
    return arg;
}

static void *unlock_anothers(void *arg)
{
    TRY(pthread_mutex_unlock(&mutex));
    TRY(pthread_cond_timedwait(&cond, &mutex, &past));
    return arg;
}

static void one_mutex(const char *name, int type, int shared, int robust, int protocol)
{
    printf("--- %s%s%s%s\n", name, shared ? " shared" : "", robust ? " robust" : "",
           protocol == PTHREAD_PRIO_INHERIT   ? " inherits"
           : protocol == PTHREAD_PRIO_PROTECT ? " protects"
                                              : "");
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    check(pthread_mutexattr_settype(&attr, type), "type");
    check(pthread_mutexattr_setpshared(&attr, shared), "shared");
    check(pthread_mutexattr_setrobust(&attr, robust), "robust");
    check(pthread_mutexattr_setprotocol(&attr, protocol), "protocol");
    if (TRY(pthread_mutex_init(&mutex, &attr)))
        return;
    if (type == PTHREAD_MUTEX_ERRORCHECK || type == PTHREAD_MUTEX_RECURSIVE)
        TRY(pthread_mutex_unlock(&mutex));
    int error = TRY(pthread_mutex_lock(&mutex));
    if (!error) {
        task_join(task_spawn(other_task, NULL));
        if (type == PTHREAD_MUTEX_ERRORCHECK || type == PTHREAD_MUTEX_RECURSIVE) {
            task_join(task_spawn(unlock_anothers, NULL));
            int again = TRY(pthread_mutex_lock(&mutex));
            if (!again)
                TRY(pthread_mutex_unlock(&mutex));
            again = TRY(pthread_mutex_timedlock(&mutex, &past));
            if (!again)
                TRY(pthread_mutex_unlock(&mutex));
        }
        if (!TRY(pthread_mutex_trylock(&mutex)))
            TRY(pthread_mutex_unlock(&mutex));
        if (!robust)
            TRY(pthread_mutex_destroy(&mutex));
        struct timespec limit = soon(CLOCK_REALTIME);
        TRY(pthread_cond_timedwait(&cond, &mutex, &limit));
        TRY(pthread_cond_timedwait(&cond, &mutex, &past));
        TRY(pthread_cond_timedwait(&cond, &mutex, &bad));
        TRY(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &past));
        TRY(pthread_cond_clockwait(&cond, &mutex, CLOCK_BOOTTIME, &past));
        TRY(pthread_mutex_unlock(&mutex));
    }
    if (type == PTHREAD_MUTEX_ERRORCHECK || type == PTHREAD_MUTEX_RECURSIVE)
        TRY(pthread_mutex_unlock(&mutex));
    if (!TRY(pthread_mutex_trylock(&mutex)))
        TRY(pthread_mutex_unlock(&mutex));
    if (!TRY(pthread_mutex_timedlock(&mutex, &bad)))
        TRY(pthread_mutex_unlock(&mutex));
    TRY(pthread_mutex_destroy(&mutex));
    pthread_mutexattr_destroy(&attr);
}

static void mutexes(void)
{
    static const struct {
        const char *name;
        int type;
    } types[] = {
        { "normal", PTHREAD_MUTEX_NORMAL },        { "default", PTHREAD_MUTEX_DEFAULT },
        { "recursive", PTHREAD_MUTEX_RECURSIVE },  { "error-checking", PTHREAD_MUTEX_ERRORCHECK },
        { "adaptive", PTHREAD_MUTEX_ADAPTIVE_NP },
    };
    check(pthread_cond_init(&cond, NULL), "cond");
    for (unsigned t = 0; t < sizeof types / sizeof *types; t++)
        for (int how = 0; how < 4; how++)
            one_mutex(types[t].name, types[t].type, how & 1, how == 2 ? PTHREAD_MUTEX_ROBUST : 0,
                      how == 3 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
    one_mutex("normal", PTHREAD_MUTEX_NORMAL, 0, 0, PTHREAD_PRIO_PROTECT);
}

/* A thread that ends with a robust mutex. */
static pthread_mutex_t left;
static void *leave_it(void *arg)
{
    pthread_mutex_lock(&left);
    return arg;
}

static void robust(void)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&left, &attr);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        check(pthread_create(&thread, NULL, leave_it, NULL), "thread");
        check(pthread_join(thread, NULL), "join");
        TRY(pthread_mutex_lock(&left));
        if (i == 0)
            TRY(pthread_mutex_consistent(&left));
        TRY(pthread_mutex_unlock(&left));
    }
    TRY(pthread_mutex_lock(&left));
    TRY(pthread_mutex_trylock(&left));
    TRY(pthread_mutex_destroy(&left));
}

static void *read_and_write(void *arg)
{
    struct timespec limit = soon(CLOCK_REALTIME), monotonic = soon(CLOCK_MONOTONIC);
    if (!TRY(pthread_rwlock_tryrdlock(&rwlock)))
        TRY(pthread_rwlock_unlock(&rwlock));
    TRY(pthread_rwlock_trywrlock(&rwlock));
    TRY(pthread_rwlock_timedwrlock(&rwlock, &limit));
    TRY(pthread_rwlock_timedwrlock(&rwlock, &bad));
    TRY(pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &monotonic));
    TRY(pthread_rwlock_clockwrlock(&rwlock, CLOCK_BOOTTIME, &monotonic));
    if (!TRY(pthread_rwlock_timedrdlock(&rwlock, &past)))
        TRY(pthread_rwlock_unlock(&rwlock));
    if (!TRY(pthread_rwlock_clockrdlock(&rwlock, CLOCK_MONOTONIC, &past)))
        TRY(pthread_rwlock_unlock(&rwlock));
    return arg;
}

static void rwlocks(void)
{
    for (int shared = 0; shared < 2; shared++) {
        pthread_rwlockattr_t attr;
        pthread_rwlockattr_init(&attr);
        pthread_rwlockattr_setpshared(&attr, shared);
        TRY(pthread_rwlock_init(&rwlock, &attr));
        TRY(pthread_rwlock_rdlock(&rwlock));
        TRY(pthread_rwlock_rdlock(&rwlock));
        task_join(task_spawn(read_and_write, NULL));
        TRY(pthread_rwlock_unlock(&rwlock));
        TRY(pthread_rwlock_trywrlock(&rwlock));
        TRY(pthread_rwlock_unlock(&rwlock));
        TRY(pthread_rwlock_wrlock(&rwlock));
        TRY(pthread_rwlock_wrlock(&rwlock));
        TRY(pthread_rwlock_rdlock(&rwlock));
        TRY(pthread_rwlock_tryrdlock(&rwlock));
        TRY(pthread_rwlock_trywrlock(&rwlock));
        task_join(task_spawn(read_and_write, NULL));
        TRY(pthread_rwlock_unlock(&rwlock));
        TRY(pthread_rwlock_timedrdlock(&rwlock, &bad));
        TRY(pthread_rwlock_timedwrlock(&rwlock, &past));
        TRY(pthread_rwlock_unlock(&rwlock));
        TRY(pthread_rwlock_destroy(&rwlock));
    }
}

static void semaphores(void)
{
    for (int shared = 0; shared < 2; shared++) {
        struct timespec limit, monotonic;
        int value;
        SHOW(sem_init(&sem, shared, 1));
        SHOW(sem_wait(&sem));
        SHOW(sem_trywait(&sem));
        limit = soon(CLOCK_REALTIME);
        SHOW(sem_timedwait(&sem, &limit));
        SHOW(sem_timedwait(&sem, &past));
        SHOW(sem_timedwait(&sem, &negative));
        SHOW(sem_timedwait(&sem, &bad));
        monotonic = soon(CLOCK_MONOTONIC);
        SHOW(sem_clockwait(&sem, CLOCK_MONOTONIC, &monotonic));
        SHOW(sem_clockwait(&sem, CLOCK_BOOTTIME, &monotonic));
        SHOW(sem_post(&sem));
        SHOW(sem_timedwait(&sem, &bad));
        SHOW(sem_timedwait(&sem, &past));
        SHOW(sem_post(&sem));
        SHOW(sem_getvalue(&sem, &value));
        printf("value %d\n", value);
        SHOW(sem_destroy(&sem));
        SHOW(sem_init(&sem, shared, SEM_VALUE_MAX));
        SHOW(sem_post(&sem));
        SHOW(sem_destroy(&sem));
    }
    SHOW(sem_init(&sem, 0, UINT_MAX));
}

static void conditions(void)
{
    pthread_condattr_t attr;
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    pthread_condattr_init(&attr);
    TRY(pthread_cond_signal(&c));
    TRY(pthread_cond_broadcast(&c));
    for (int clock = 0; clock < 2; clock++) {
        clockid_t id = clock ? CLOCK_MONOTONIC : CLOCK_REALTIME;
        pthread_condattr_setclock(&attr, id);
        TRY(pthread_cond_init(&c, &attr));
        TRY(pthread_mutex_lock(&m));
        struct timespec limit = soon(id);
        TRY(pthread_cond_timedwait(&c, &m, &limit));
        TRY(pthread_cond_timedwait(&c, &m, &negative));
        limit = soon(CLOCK_REALTIME);
        TRY(pthread_cond_clockwait(&c, &m, CLOCK_REALTIME, &limit));
        TRY(pthread_mutex_unlock(&m));
        TRY(pthread_cond_destroy(&c));
    }
}

static int times;
static void count(void) { times++; }

static void rest(void)
{
    pthread_spinlock_t spin;
    pthread_barrier_t barrier;
    pthread_once_t once = PTHREAD_ONCE_INIT;
    once_flag flag = ONCE_FLAG_INIT;
    TRY(pthread_spin_init(&spin, 0));
    TRY(pthread_spin_lock(&spin));
    TRY(pthread_spin_trylock(&spin));
    TRY(pthread_spin_unlock(&spin));
    TRY(pthread_spin_trylock(&spin));
    TRY(pthread_spin_unlock(&spin));
    TRY(pthread_spin_destroy(&spin));
    TRY(pthread_barrier_init(&barrier, NULL, 0));
    TRY(pthread_barrier_init(&barrier, NULL, 1));
    for (int i = 0; i < 3; i++)
        printf("barrier: %d\n", pthread_barrier_wait(&barrier));
    TRY(pthread_barrier_destroy(&barrier));
    TRY(pthread_once(&once, count));
    TRY(pthread_once(&once, count));
    call_once(&flag, count);
    call_once(&flag, count);
    printf("once: %d\n", times);
    TRY(pthread_join(pthread_self(), NULL));
    TRY(sched_yield());
    thrd_yield();
}

static mtx_t mtx;
static cnd_t cnd;
static void *another_mtx(void *arg)
{
    struct timespec limit = soon(CLOCK_REALTIME);
    TRY(mtx_trylock(&mtx));
    TRY(mtx_timedlock(&mtx, &limit));
    TRY(mtx_timedlock(&mtx, &past));
    TRY(mtx_timedlock(&mtx, &bad));
    return arg;
}

static int end_with_7(void *arg)
{
    (void)arg;
    return 7;
}

static void c11(void)
{
    static const int types[] = { mtx_plain, mtx_timed, mtx_recursive | mtx_plain,
                                 mtx_recursive | mtx_timed };
    TRY(cnd_init(&cnd));
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        TRY(mtx_init(&mtx, types[i]));
        TRY(mtx_lock(&mtx));
        if (types[i] & mtx_recursive) {
            TRY(mtx_lock(&mtx));
            TRY(mtx_unlock(&mtx));
        }
        task_join(task_spawn(another_mtx, NULL));
        struct timespec limit = soon(CLOCK_REALTIME);
        TRY(cnd_timedwait(&cnd, &mtx, &limit));
        TRY(cnd_timedwait(&cnd, &mtx, &bad));
        TRY(mtx_unlock(&mtx));
        if (types[i] & mtx_recursive)
            TRY(mtx_unlock(&mtx));
        mtx_destroy(&mtx);
    }
    TRY(cnd_signal(&cnd));
    TRY(cnd_broadcast(&cnd));
    cnd_destroy(&cnd);
    thrd_t thread;
    int result;
    TRY(thrd_create(&thread, end_with_7, NULL));
    TRY(thrd_join(thread, &result));
    printf("result %d\n", result);
}

static long futex(void *word, int operation, unsigned value, const void *time, void *word2,
                  unsigned value3)
{
    return syscall(SYS_futex, word, operation, value, time, word2, value3);
}

static void futexes(void)
{
    static uint32_t word = 5;
    static const struct timespec brief = { 0, 2000000 };
    for (int private = 0; private <= FUTEX_PRIVATE_FLAG; private += FUTEX_PRIVATE_FLAG) {
        struct timespec limit = soon(CLOCK_MONOTONIC);
        SHOW(futex(&word, FUTEX_WAIT | private, 4, NULL, NULL, 0));
        SHOW(futex(&word, FUTEX_WAIT | private, 5, &brief, NULL, 0));
        SHOW(futex(&word, FUTEX_WAIT | private, 5, &bad, NULL, 0));
        SHOW(futex(&word, FUTEX_WAIT_BITSET | private, 5, &limit, NULL, 2));
        SHOW(futex(&word, FUTEX_WAIT_BITSET | private, 5, &past, NULL, 2));
        SHOW(futex(&word, FUTEX_WAIT_BITSET | private, 5, &past, NULL, 0));
        SHOW(futex((char *)&word + 1, FUTEX_WAIT | private, 5, &brief, NULL, 0));
        SHOW(futex((void *)8, FUTEX_WAIT | private, 5, &brief, NULL, 0));
        SHOW(futex(&word, FUTEX_WAKE | private, 1, NULL, NULL, 0));
        SHOW(futex(&word, FUTEX_WAKE_BITSET | private, 1, NULL, NULL, 0));
        SHOW(futex(&word, FUTEX_CMP_REQUEUE | private, 1, (void *)1, &word, 4));
        SHOW(futex(&word, 77 | private, 1, NULL, NULL, 0));
    }
}

static void by_number(void)
{
    char buffer[16] = "";
    int ends[2];
    struct timespec none = { 0, 0 };
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "file", O_RDWR | O_CREAT, 0600);
    SHOW(syscall(SYS_write, fd, "hello", 5));
    SHOW(syscall(SYS_pwrite64, fd, "j", 1, 0));
    SHOW(syscall(SYS_pread64, fd, buffer, 16, 0));
    puts(buffer);
    struct iovec part = { buffer, 3 };
    SHOW(syscall(SYS_preadv2, fd, &part, 1, 1L, 0L, 0));
    SHOW(syscall(SYS_preadv2, fd, &part, 1, 1L, 0L, 0x4000));
    SHOW(syscall(SYS_fsync, fd));
    SHOW(syscall(SYS_lseek, fd, 0, SEEK_SET));
    SHOW(syscall(SYS_close, fd));
    SHOW(syscall(SYS_close, fd));
    SHOW(syscall(SYS_read, fd, buffer, 1));
    SHOW(syscall(SYS_nanosleep, &none, NULL));
    SHOW(syscall(SYS_nanosleep, &bad, NULL));
    SHOW(syscall(SYS_sched_yield));
    SHOW(syscall(SYS_mmap, NULL, 4096L, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1L));
    SHOW(syscall(9999));
    if (pipe(ends))
        die("pipe");
    SHOW(syscall(SYS_write, ends[1], "x", 1));
    SHOW(syscall(SYS_read, ends[0], buffer, 16));
}

static void probe(void)
{
    mutexes();
    robust();
    rwlocks();
    semaphores();
    conditions();
    rest();
    c11();
    futexes();
    by_number();
}
