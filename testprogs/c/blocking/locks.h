/* SPDX-License-Identifier: MIT */
/* locks.h - cases that wait for another thread: locks that the first task holds, conditions that it
 * signals, threads that end when it releases them. */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int held;

static void hold_mutex(void)
{
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    held = 1;
}

static void let_mutex_go(void)
{
    if (held)
        check(pthread_mutex_unlock(&mutex), "pthread_mutex_unlock");
    held = 0;
}

static void then_unlock(int error)
{
    check(error, "lock");
    check(pthread_mutex_unlock(&mutex), "pthread_mutex_unlock");
}

static void mutex_lock_call(unsigned i)
{
    (void)i;
    then_unlock(CALL(int (*)(pthread_mutex_t *), pthread_mutex_lock, &mutex));
}

static void mutex_timedlock_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    then_unlock(CALL(int (*)(pthread_mutex_t *, const struct timespec *), pthread_mutex_timedlock,
                     &mutex, &until));
}

static void mutex_clocklock_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    then_unlock(CALL(int (*)(pthread_mutex_t *, clockid_t, const struct timespec *),
                     pthread_mutex_clocklock, &mutex, CLOCK_REALTIME, &until));
}

static mtx_t plain_mutex;

static void hold_mtx(void)
{
    must(mtx_init(&plain_mutex, mtx_timed) == thrd_success &&
             mtx_lock(&plain_mutex) == thrd_success,
         "mtx_lock");
    held = 1;
}

static void let_mtx_go(void)
{
    if (held)
        must(mtx_unlock(&plain_mutex) == thrd_success, "mtx_unlock");
    held = 0;
}

static void mtx_lock_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(mtx_t *), mtx_lock, &plain_mutex) == thrd_success, "mtx_lock");
    must(mtx_unlock(&plain_mutex) == thrd_success, "mtx_unlock");
}

static void mtx_timedlock_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    must(CALL(int (*)(mtx_t *, const struct timespec *), mtx_timedlock, &plain_mutex, &until) ==
             thrd_success,
         "mtx_timedlock");
    must(mtx_unlock(&plain_mutex) == thrd_success, "mtx_unlock");
}

/* ---- Conditions ----------------------------------------------------------------------------- */

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void signal_cond(void) { check(pthread_cond_signal(&cond), "pthread_cond_signal"); }

static void cond_wait_call(unsigned i)
{
    (void)i;
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    then_unlock(
        CALL(int (*)(pthread_cond_t *, pthread_mutex_t *), pthread_cond_wait, &cond, &mutex));
}

static void cond_timedwait_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    then_unlock(CALL(int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *),
                     pthread_cond_timedwait, &cond, &mutex, &until));
}

static void cond_clockwait_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    check(pthread_mutex_lock(&mutex), "pthread_mutex_lock");
    then_unlock(
        CALL(int (*)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *),
             pthread_cond_clockwait, &cond, &mutex, CLOCK_REALTIME, &until));
}

static cnd_t plain_cond;

static void make_cnd(void)
{
    must(mtx_init(&plain_mutex, mtx_plain) == thrd_success && cnd_init(&plain_cond) == thrd_success,
         "cnd_init");
}

static void signal_cnd(void) { must(cnd_signal(&plain_cond) == thrd_success, "cnd_signal"); }

static void cnd_wait_call(unsigned i)
{
    (void)i;
    must(mtx_lock(&plain_mutex) == thrd_success, "mtx_lock");
    must(CALL(int (*)(cnd_t *, mtx_t *), cnd_wait, &plain_cond, &plain_mutex) == thrd_success,
         "cnd_wait");
    must(mtx_unlock(&plain_mutex) == thrd_success, "mtx_unlock");
}

static void cnd_timedwait_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    must(mtx_lock(&plain_mutex) == thrd_success, "mtx_lock");
    must(CALL(int (*)(cnd_t *, mtx_t *, const struct timespec *), cnd_timedwait, &plain_cond,
              &plain_mutex, &until) == thrd_success,
         "cnd_timedwait");
    must(mtx_unlock(&plain_mutex) == thrd_success, "mtx_unlock");
}

/* ---- Reader-writer and spin locks ----------------------------------------------------------- */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void hold_rwlock(void)
{
    check(pthread_rwlock_wrlock(&rwlock), "pthread_rwlock_wrlock");
    held = 1;
}

static void let_rwlock_go(void)
{
    if (held)
        check(pthread_rwlock_unlock(&rwlock), "pthread_rwlock_unlock");
    held = 0;
}

static void then_unlock_rw(int error)
{
    check(error, "rwlock");
    check(pthread_rwlock_unlock(&rwlock), "pthread_rwlock_unlock");
}

/* rdlock and wrlock */
static void rwlock_call(unsigned i)
{
    (void)i;
    then_unlock_rw(CALL(int (*)(pthread_rwlock_t *), pthread_rwlock_wrlock, &rwlock));
}

static void rwlock_timed_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    then_unlock_rw(CALL(int (*)(pthread_rwlock_t *, const struct timespec *),
                        pthread_rwlock_timedwrlock, &rwlock, &until));
}

static void rwlock_clock_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    then_unlock_rw(CALL(int (*)(pthread_rwlock_t *, clockid_t, const struct timespec *),
                        pthread_rwlock_clockwrlock, &rwlock, CLOCK_REALTIME, &until));
}

static pthread_spinlock_t spin;

static void hold_spin(void)
{
    check(pthread_spin_init(&spin, 0), "pthread_spin_init");
    check(pthread_spin_lock(&spin), "pthread_spin_lock");
    held = 1;
}

static void let_spin_go(void)
{
    if (held)
        check(pthread_spin_unlock(&spin), "pthread_spin_unlock");
    held = 0;
}

static void spin_lock_call(unsigned i)
{
    (void)i;
    check(CALL(int (*)(pthread_spinlock_t *), pthread_spin_lock, &spin), "pthread_spin_lock");
    check(pthread_spin_unlock(&spin), "pthread_spin_unlock");
}

/* ---- Semaphores, barriers, once ------------------------------------------------------------- */

static sem_t semaphore;

static void make_semaphore(void) { must(sem_init(&semaphore, 0, 0) == 0, "sem_init"); }

static void post(void) { must(sem_post(&semaphore) == 0, "sem_post"); }

static void sem_wait_call(unsigned i)
{
    (void)i;
    must(CALL(int (*)(sem_t *), sem_wait, &semaphore) == 0, "sem_wait");
}

static void sem_timedwait_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    must(CALL(int (*)(sem_t *, const struct timespec *), sem_timedwait, &semaphore, &until) == 0,
         "sem_timedwait");
}

static void sem_clockwait_call(unsigned i)
{
    struct timespec until = in_an_hour();
    (void)i;
    must(CALL(int (*)(sem_t *, clockid_t, const struct timespec *), sem_clockwait, &semaphore,
              CLOCK_REALTIME, &until) == 0,
         "sem_clockwait");
}

static pthread_barrier_t barrier;
static int came;

static void make_barrier(void)
{
    check(pthread_barrier_init(&barrier, NULL, TASKS + 1), "pthread_barrier_init");
}

static void come_last(void)
{
    if (!came++)
        (void)pthread_barrier_wait(&barrier);
}

static void barrier_call(unsigned i)
{
    (void)i;
    int result = CALL(int (*)(pthread_barrier_t *), pthread_barrier_wait, &barrier);
    must(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD, "pthread_barrier_wait");
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void initialise(void)
{
    char byte;
    must(read(ends[0], &byte, 1) == 1, "read");
}

/* call_once(3) returns nothing. */
static void once_call(unsigned i)
{
    (void)i;
    (void)CALL(int (*)(pthread_once_t *, void (*)(void)), pthread_once, &once, initialise);
}

/* ---- Ending threads ------------------------------------------------------------------------- */

static pthread_t threads[TASKS];

static void *end_with_pipe(void *arg)
{
    char byte;
    while (syscall(SYS_read, ends[0], &byte, 1) < 0)
        ;
    return arg;
}

static void make_threads(void)
{
    make_pipe();
    for (int i = 0; i < TASKS; i++)
        check(pthread_create(&threads[i], NULL, end_with_pipe, NULL), "pthread_create");
}

static void join_call(unsigned i)
{
    check(CALL(int (*)(pthread_t, void **), pthread_join, threads[i], NULL), "pthread_join");
}

static void timedjoin_call(unsigned i)
{
    struct timespec until = in_an_hour();
    check(CALL(int (*)(pthread_t, void **, const struct timespec *), pthread_timedjoin_np,
               threads[i], NULL, &until),
          "pthread_timedjoin_np");
}

static void clockjoin_call(unsigned i)
{
    struct timespec until = in_an_hour();
    check(CALL(int (*)(pthread_t, void **, clockid_t, const struct timespec *),
               pthread_clockjoin_np, threads[i], NULL, CLOCK_REALTIME, &until),
          "pthread_clockjoin_np");
}

static void thrd_join_call(unsigned i)
{
    must(CALL(int (*)(thrd_t, int *), thrd_join, threads[i], NULL) == thrd_success, "thrd_join");
}

static int word;

static void wake_word(void)
{
    word = 1;
    syscall(SYS_futex, &word, 1 /* FUTEX_WAKE */, TASKS, NULL, NULL, 0);
}

static void syscall_call(unsigned i)
{
    (void)i;
    long result =
        CALL(long (*)(long, ...), syscall, SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, NULL, NULL, 0);
    must(result == 0 || errno == EAGAIN, "futex");
}

static const struct blocking locks[] = {
    { "pthread_mutex_lock __pthread_mutex_lock",
      hold_mutex,
      mutex_lock_call,
      let_mutex_go,
      0,
      { 0 },
      0 },
    { "pthread_mutex_timedlock", hold_mutex, mutex_timedlock_call, let_mutex_go, 0, { 0 }, 0 },
    { "pthread_mutex_clocklock", hold_mutex, mutex_clocklock_call, let_mutex_go, 0, { 0 }, 0 },
    { "mtx_lock", hold_mtx, mtx_lock_call, let_mtx_go, 0, { 0 }, 0 },
    { "mtx_timedlock", hold_mtx, mtx_timedlock_call, let_mtx_go, 0, { 0 }, 0 },
    { "pthread_cond_wait", NULL, cond_wait_call, signal_cond, 0, { 0 }, 0 },
    { "pthread_cond_timedwait", NULL, cond_timedwait_call, signal_cond, 0, { 0 }, 0 },
    { "pthread_cond_clockwait", NULL, cond_clockwait_call, signal_cond, 0, { 0 }, 0 },
    { "cnd_wait", make_cnd, cnd_wait_call, signal_cnd, 0, { 0 }, 0 },
    { "cnd_timedwait", make_cnd, cnd_timedwait_call, signal_cnd, 0, { 0 }, 0 },
    { "pthread_rwlock_rdlock __pthread_rwlock_rdlock pthread_rwlock_wrlock __pthread_rwlock_wrlock",
      hold_rwlock,
      rwlock_call,
      let_rwlock_go,
      0,
      { 0 },
      0 },
    { "pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock",
      hold_rwlock,
      rwlock_timed_call,
      let_rwlock_go,
      0,
      { 0 },
      0 },
    { "pthread_rwlock_clockrdlock pthread_rwlock_clockwrlock",
      hold_rwlock,
      rwlock_clock_call,
      let_rwlock_go,
      0,
      { 0 },
      0 },
    { "pthread_spin_lock", hold_spin, spin_lock_call, let_spin_go, 0, { 0 }, 0 },
    { "sem_wait", make_semaphore, sem_wait_call, post, 0, { 0 }, 0 },
    { "sem_timedwait", make_semaphore, sem_timedwait_call, post, 0, { 0 }, 0 },
    { "sem_clockwait", make_semaphore, sem_clockwait_call, post, 0, { 0 }, 0 },
    { "pthread_barrier_wait", make_barrier, barrier_call, come_last, 0, { 0 }, 0 },
    { "pthread_once __pthread_once call_once", make_pipe, once_call, feed_pipe, 0, { 0 }, 0 },
    { "pthread_join", make_threads, join_call, close_writer, 0, { 0 }, 0 },
    { "pthread_timedjoin_np", make_threads, timedjoin_call, close_writer, 0, { 0 }, 0 },
    { "pthread_clockjoin_np", make_threads, clockjoin_call, close_writer, 0, { 0 }, 0 },
    { "thrd_join", make_threads, thrd_join_call, close_writer, 0, { 0 }, 0 },
    { "syscall", NULL, syscall_call, wake_word, 0, { 0 }, 0 },
};
