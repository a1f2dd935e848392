/* SPDX-License-Identifier: MIT */
/* fiber.h - green threads with pthread conventions.
 *
 * Functions return 0 or a positive error number (never -1/errno). A function that may park says so:
 * the calling fiber waits and its OS thread runs other fibers. A started fiber stays on its OS
 * thread for life. Nothing here may be called from a signal handler. A child of fork goes on on the
 * calling fiber alone; joining another there is ESRCH. The library knows nothing of I/O: a blocking
 * system call blocks the OS thread, unless libaioshim.so is preloaded. */
#ifndef FIBER_H
#define FIBER_H

#include <stddef.h>
#include <stdint.h>

struct timespec; /* <time.h>; clock arguments are clockid_t, an int on Linux */

#ifdef __cplusplus
extern "C" {
#endif

#define FIBER_VERSION_MAJOR 0
#define FIBER_VERSION_MINOR 1
#define FIBER_VERSION_PATCH 0
/* Version of the library in use: major << 16 | minor << 8 | patch. */
unsigned fiber_version(void);

/* ---- Types ---------------------------------------------------------------------------------- */

/* A fiber's handle. Opaque: it is not an address. Dead once joined, or once ended when detached. */
typedef struct fiber fiber_t;

/* Start from FIBER_OPTIONS_INIT; a zero field means the default (FIBER_WORKERS, FIBER_STACK in the
 * environment, else 1 worker and 256 KiB of stack). size is sizeof(fiber_options_t), so that the
 * struct can grow. */
typedef struct fiber_options {
    size_t size;
    /* OS threads that run fibers, the caller of fiber_run included */
    unsigned workers;
    /* Bytes of address space per fiber stack, 16 KiB to 1 GiB, rounded up to a power of two. Only
     * touched pages take memory. A fiber that runs off the end of its stack is reported, and
     * SIGSEGV ends the process. A single frame that reaches more than 1 MiB past the end may touch
     * another fiber's stack: give its fiber a larger stack, or compile with
     * -fstack-clash-protection. */
    size_t stack_size;
} fiber_options_t;
#define FIBER_OPTIONS_INIT            \
    {                                 \
        sizeof(fiber_options_t), 0, 0 \
    }

/* Start from FIBER_ATTR_INIT. The name is copied (15 bytes kept); NULL means none. */
typedef struct fiber_attr {
    size_t size;
    size_t stack_size; /* bytes; 0 = the runtime's default */
    const char *name;
    int detached; /* nonzero: no join, the fiber frees itself when it ends */
} fiber_attr_t;
#define FIBER_ATTR_INIT                  \
    {                                    \
        sizeof(fiber_attr_t), 0, NULL, 0 \
    }

/* ---- Running -------------------------------------------------------------------------------- */

/* Runs fn(arg) as the first fiber; the caller becomes a worker. Returns when fn and every fiber it
 * led to have ended; *ret (if ret) is fn's result. opt NULL = defaults. EINVAL bad options, EAGAIN
 * no thread or memory, EBUSY called on a fiber. */
int fiber_run(const fiber_options_t *opt, void *(*fn)(void *), void *arg, void **ret);

/* Makes a fiber that will run fn(arg); *out (if out) is its handle. attr NULL = defaults. Does not
 * park. EPERM off a fiber, EINVAL bad attr, EAGAIN no memory. */
int fiber_create(fiber_t **out, const fiber_attr_t *attr, void *(*fn)(void *), void *arg);

/* Waits for f to end; *ret (if ret) is its result; frees f. May park. EPERM off a fiber, ESRCH no
 * such fiber (joined before), EINVAL detached or being joined by another, EDEADLK itself or a fiber
 * that joins the caller. */
int fiber_join(fiber_t *f, void **ret);

/* f will free itself when it ends. From any thread. ESRCH no such fiber, EINVAL detached already.
 */
int fiber_detach(fiber_t *f);

/* Ends the calling fiber with result ret: cleanup handlers and destructors of its keys run, its
 * stack is not unwound. Does not return on a fiber; off a fiber it does nothing. pthread_exit and
 * thrd_exit on a fiber end it, too, and unwind its stack. */
void fiber_exit(void *ret);

/* The calling fiber, or NULL off a fiber. Does not park. */
fiber_t *fiber_self(void);

/* Lets the other runnable fibers of this worker run first. Off a fiber: sched_yield(2). */
void fiber_yield(void);

/* Parks for at least ns nanoseconds (CLOCK_MONOTONIC). Off a fiber: EPERM. */
int fiber_sleep(uint64_t ns);

/* Number of f since the process began, from 1; 0 when f is NULL or gone. Does not park. */
uint64_t fiber_id(fiber_t *f);

/* Sets f's name (at most 15 bytes, else ERANGE; ESRCH no such fiber). f NULL = the caller. */
int fiber_setname(fiber_t *f, const char *name);

/* Copies f's name, "" when it has none, to buf. ERANGE if len is too small, ESRCH no such fiber. f
 * NULL = the caller. */
int fiber_getname(fiber_t *f, char *buf, size_t len);

/* Writes one line a live fiber of the caller's runtime to fd: id, name, worker, state and what it
 * waits for. For debugging; from gdb: call fiber_dump(2). Does not park. */
void fiber_dump(int fd);

/* ---- Cancellation --------------------------------------------------------------------------- */
/* As pthreads', deferred. Cancellation points are fiber_join, fiber_sleep, fiber_cond_wait,
 * fiber_sem_wait and their timed forms, fiber_testcancel and, with libaioshim.so preloaded, the
 * calls that pthreads(7) lists, where they wait. Locks, once and barriers are none. A cancelled
 * fiber's stack is not unwound: its cleanup handlers run, then its keys' destructors. */

#define FIBER_CANCELED ((void *)-1)
#define FIBER_CANCEL_ENABLE 0
#define FIBER_CANCEL_DISABLE 1
#define FIBER_CANCEL_DEFERRED 0
#define FIBER_CANCEL_ASYNCHRONOUS 1

/* Asks f to end with FIBER_CANCELED: at once if it waits at a cancellation point (which has no
 * effect then; a condition variable's mutex is locked again first), else at its next. Does not wait
 * for that. EPERM off a fiber, ESRCH no such fiber in this runtime. */
int fiber_cancel(fiber_t *f);

/* Whether the calling fiber may be cancelled, at first FIBER_CANCEL_ENABLE; *old (if old) is what
 * was set before. Requests wait meanwhile. EPERM off a fiber, EINVAL no such state. */
int fiber_setcancelstate(int state, int *old);

/* Only FIBER_CANCEL_DEFERRED can be had: ENOTSUP for FIBER_CANCEL_ASYNCHRONOUS. EPERM off a fiber,
 * EINVAL no such type. */
int fiber_setcanceltype(int type, int *old);

/* Ends the calling fiber if it was asked to. */
void fiber_testcancel(void);

/* Between the two, which belong together in one block as pthreads' do, routine(arg) runs if the
 * fiber is cancelled or calls fiber_exit, the last pushed first; fiber_cleanup_pop(nonzero) runs
 * it, too. */
typedef struct fiber_cleanup {
    void (*routine)(void *);
    void *arg;
    struct fiber_cleanup *next;
} fiber_cleanup_t;
#define fiber_cleanup_push(routine, arg) \
    do {                                 \
        fiber_cleanup_t fiber_c_;        \
    fiber_cleanup_enter(&fiber_c_, (routine), (arg))
#define fiber_cleanup_pop(execute)             \
    fiber_cleanup_leave(&fiber_c_, (execute)); \
    }                                          \
    while (0)
/* What they are made of, for other languages: here stays in place until leave, and is left in
 * order. */
void fiber_cleanup_enter(fiber_cleanup_t *here, void (*routine)(void *), void *arg);
void fiber_cleanup_leave(fiber_cleanup_t *here, int execute);

/* ---- Mutex ---------------------------------------------------------------------------------- */
/* Locks and waits belong to fibers: off a fiber they return EPERM. Objects start from their
 * initializer or init. */

typedef struct fiber_mutex {
    uint64_t opaque[5];
} fiber_mutex_t;
typedef struct fiber_mutexattr {
    int type;
} fiber_mutexattr_t;
#define FIBER_MUTEX_INITIALIZER \
    {                           \
        {                       \
            0, 0, 0, 0, 0       \
        }                       \
    }
#define FIBER_MUTEX_NORMAL \
    0 /* relocking deadlocks (and is reported), unlocking another's is EPERM */
#define FIBER_MUTEX_RECURSIVE 1  /* the owner may lock again; EAGAIN past 2^32-1 */
#define FIBER_MUTEX_ERRORCHECK 2 /* relocking is EDEADLK */
#define FIBER_MUTEX_DEFAULT FIBER_MUTEX_NORMAL

int fiber_mutexattr_init(fiber_mutexattr_t *a);
int fiber_mutexattr_destroy(fiber_mutexattr_t *a);
int fiber_mutexattr_settype(fiber_mutexattr_t *a, int type);
int fiber_mutexattr_gettype(const fiber_mutexattr_t *a, int *type);

int fiber_mutex_init(fiber_mutex_t *m, const fiber_mutexattr_t *a);
/* EBUSY while locked. */
int fiber_mutex_destroy(fiber_mutex_t *m);
/* May park. Waiters get the lock in turn. */
int fiber_mutex_lock(fiber_mutex_t *m);
/* EBUSY when it is locked. */
int fiber_mutex_trylock(fiber_mutex_t *m);
/* As lock, ETIMEDOUT once abstime (CLOCK_REALTIME, or clock: CLOCK_REALTIME or CLOCK_MONOTONIC) has
 * passed. A clock set during the wait is not followed. EINVAL for another clock or nanoseconds out
 * of range, if it would have to wait. */
int fiber_mutex_timedlock(fiber_mutex_t *m, const struct timespec *abstime);
int fiber_mutex_clocklock(fiber_mutex_t *m, int clock, const struct timespec *abstime);
/* EPERM when the caller does not own it. */
int fiber_mutex_unlock(fiber_mutex_t *m);

/* ---- Condition variable --------------------------------------------------------------------- */

typedef struct fiber_cond {
    uint64_t opaque[4];
} fiber_cond_t;
#define FIBER_COND_INITIALIZER \
    {                          \
        {                      \
            0, 0, 0, 0         \
        }                      \
    }

/* attr is reserved: NULL, else EINVAL. */
int fiber_cond_init(fiber_cond_t *c, const void *attr);
/* EBUSY while fibers wait. */
int fiber_cond_destroy(fiber_cond_t *c);
/* Unlocks m and parks until signalled, then locks m again. EPERM when the caller does not own m. */
int fiber_cond_wait(fiber_cond_t *c, fiber_mutex_t *m);
int fiber_cond_timedwait(fiber_cond_t *c, fiber_mutex_t *m, const struct timespec *abstime);
int fiber_cond_clockwait(fiber_cond_t *c, fiber_mutex_t *m, int clock,
                         const struct timespec *abstime);
/* From any thread, on a fiber or off. */
int fiber_cond_signal(fiber_cond_t *c);
int fiber_cond_broadcast(fiber_cond_t *c);

/* ---- Semaphore ------------------------------------------------------------------------------ */

typedef struct fiber_sem {
    uint64_t opaque[4];
} fiber_sem_t;

/* pshared must be 0 (ENOSYS); EINVAL when value is past FIBER_SEM_VALUE_MAX. */
#define FIBER_SEM_VALUE_MAX 0x7fffffff
int fiber_sem_init(fiber_sem_t *s, int pshared, unsigned value);
int fiber_sem_destroy(fiber_sem_t *s);
/* May park. */
int fiber_sem_wait(fiber_sem_t *s);
/* EAGAIN when it is zero. From any thread. */
int fiber_sem_trywait(fiber_sem_t *s);
int fiber_sem_timedwait(fiber_sem_t *s, const struct timespec *abstime);
int fiber_sem_clockwait(fiber_sem_t *s, int clock, const struct timespec *abstime);
/* EOVERFLOW at the maximum. From any thread, on a fiber or off. */
int fiber_sem_post(fiber_sem_t *s);
int fiber_sem_getvalue(fiber_sem_t *s, int *value);

/* ---- Read-write lock ------------------------------------------------------------------------ */

typedef struct fiber_rwlock {
    uint64_t opaque[6];
} fiber_rwlock_t;
#define FIBER_RWLOCK_INITIALIZER \
    {                            \
        {                        \
            0, 0, 0, 0, 0, 0     \
        }                        \
    }

/* attr is reserved: NULL, else EINVAL. Served in turn: a reader that comes after a waiting writer
 * waits. */
int fiber_rwlock_init(fiber_rwlock_t *l, const void *attr);
int fiber_rwlock_destroy(fiber_rwlock_t *l);
/* May park. EDEADLK when the caller holds it for writing. */
int fiber_rwlock_rdlock(fiber_rwlock_t *l);
int fiber_rwlock_tryrdlock(fiber_rwlock_t *l);
int fiber_rwlock_timedrdlock(fiber_rwlock_t *l, const struct timespec *abstime);
int fiber_rwlock_clockrdlock(fiber_rwlock_t *l, int clock, const struct timespec *abstime);
int fiber_rwlock_wrlock(fiber_rwlock_t *l);
int fiber_rwlock_trywrlock(fiber_rwlock_t *l);
int fiber_rwlock_timedwrlock(fiber_rwlock_t *l, const struct timespec *abstime);
int fiber_rwlock_clockwrlock(fiber_rwlock_t *l, int clock, const struct timespec *abstime);
/* EPERM when it is not locked, or locked for writing by another. */
int fiber_rwlock_unlock(fiber_rwlock_t *l);

/* ---- Barrier and once ----------------------------------------------------------------------- */

typedef struct fiber_barrier {
    uint64_t opaque[4];
} fiber_barrier_t;
#define FIBER_BARRIER_SERIAL_FIBER (-1)

/* EINVAL when count is 0 or attr is not NULL. */
int fiber_barrier_init(fiber_barrier_t *b, const void *attr, unsigned count);
/* EBUSY while fibers wait. */
int fiber_barrier_destroy(fiber_barrier_t *b);
/* Parks until count fibers are here; one of them gets FIBER_BARRIER_SERIAL_FIBER, the others 0. */
int fiber_barrier_wait(fiber_barrier_t *b);

typedef struct fiber_once_flag {
    uint64_t opaque[3];
} fiber_once_t;
#define FIBER_ONCE_INIT \
    {                   \
        {               \
            0, 0, 0     \
        }               \
    }

/* Runs fn once; callers meanwhile park until it has returned. EPERM off a fiber. */
int fiber_once(fiber_once_t *o, void (*fn)(void));

/* ---- Fiber-local storage -------------------------------------------------------------------- */

typedef unsigned fiber_key_t;
#define FIBER_KEYS_MAX 1024
#define FIBER_DESTRUCTOR_ITERATIONS 4

/* pthread_key_create and thread_local are the OS thread's, whose fibers share them; these are each
 * fiber's own. A key reads NULL on every fiber until set. The destructor (if any) runs as a fiber
 * ends, for a value not NULL. From any thread. EAGAIN when FIBER_KEYS_MAX keys exist. */
int fiber_key_create(fiber_key_t *key, void (*destructor)(void *));
/* EINVAL no such key. Destructors are not run. */
int fiber_key_delete(fiber_key_t key);
/* NULL off a fiber, for a key that does not exist and before the first set. */
void *fiber_getspecific(fiber_key_t key);
/* EINVAL no such key, ENOMEM, EPERM off a fiber. */
int fiber_setspecific(fiber_key_t key, const void *value);

#ifdef __cplusplus
}
#endif
#endif
