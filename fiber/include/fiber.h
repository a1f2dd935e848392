/* SPDX-License-Identifier: MIT */
/* fiber.h - green threads with pthread conventions.
 *
 * Functions that can fail return 0 or a positive error number; they do not report errors through
 * errno. A comment says "May park" if the function can make the calling fiber wait; the OS thread
 * then runs other fibers. A fiber stays on one OS thread from its start to its end. Do not call any
 * of these functions from a signal handler.
 *
 * After fork(2) on a fiber, the child process runs only that fiber. Joining any other fiber there
 * returns ESRCH. The library does no I/O of its own: a blocking system call blocks the OS thread,
 * unless libaioshim.so is preloaded. */
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
/* The version of the library that is loaded: major << 16 | minor << 8 | patch. */
unsigned fiber_version(void);

/* ---- Types ---------------------------------------------------------------------------------- */

/* An opaque handle to a fiber. It is not a valid address: never dereference it. The handle becomes
 * stale when the fiber is joined, or when it ends if it is detached. Passing a stale handle is
 * safe: fiber_id returns 0 and the other functions return ESRCH. */
typedef struct fiber fiber_t;

/* Options for fiber_run. Initialize with FIBER_OPTIONS_INIT and change the fields you need. A zero
 * field means the default: the environment variables FIBER_WORKERS and FIBER_STACK if set,
 * otherwise 1 worker and 256 KiB of stack. size is sizeof(fiber_options_t); later versions may add
 * fields at the end. */
typedef struct fiber_options {
    size_t size;
    /* The number of OS threads that run fibers, including the caller of fiber_run. */
    unsigned workers;
    /* Bytes of address space per fiber stack: 16 KiB to 1 GiB, rounded up to a power of two. Only
     * touched pages use memory. If a fiber overflows its stack, the library reports it on stderr
     * and SIGSEGV ends the process. A single frame that reaches more than 1 MiB past the end can
     * overwrite another fiber's stack. To prevent this, give that fiber a larger stack or compile
     * with -fstack-clash-protection. */
    size_t stack_size;
} fiber_options_t;
#define FIBER_OPTIONS_INIT            \
    {                                 \
        sizeof(fiber_options_t), 0, 0 \
    }

/* Attributes for fiber_create. Initialize with FIBER_ATTR_INIT. The library copies the name and
 * keeps its first 15 bytes; NULL means no name. */
typedef struct fiber_attr {
    size_t size;
    size_t stack_size; /* bytes; 0 means the runtime's default */
    const char *name;
    int detached; /* nonzero: the fiber cannot be joined and frees itself at its end */
} fiber_attr_t;
#define FIBER_ATTR_INIT                  \
    {                                    \
        sizeof(fiber_attr_t), 0, NULL, 0 \
    }

/* ---- Running -------------------------------------------------------------------------------- */

/* Starts a runtime, which is one or more OS threads (the workers) that run fibers, and runs fn(arg)
 * as its first fiber. The calling thread becomes one of the workers. Returns when fn and all fibers
 * created in this runtime have ended. Stores fn's result in *ret unless ret is NULL. A NULL opt
 * means all defaults. EINVAL: bad options. EAGAIN: a thread could not be started or memory ran out.
 * EBUSY: called on a fiber.
 *
 * In a deadlock, when every fiber waits and nothing can wake one, the library prints what each of
 * them waits for to standard error, and aborts the process. */
int fiber_run(const fiber_options_t *opt, void *(*fn)(void *), void *arg, void **ret);

/* Creates a fiber that will run fn(arg). Stores its handle in *out unless out is NULL. A NULL attr
 * means all defaults. Does not park. EPERM: called off a fiber. EINVAL: bad attributes. EAGAIN: out
 * of memory. */
int fiber_create(fiber_t **out, const fiber_attr_t *attr, void *(*fn)(void *), void *arg);

/* Waits until f has ended, stores its result in *ret unless ret is NULL, and frees f. May park.
 * EPERM: called off a fiber. ESRCH: no such fiber, for example because it was joined before.
 * EINVAL: f is detached or another fiber is joining it. EDEADLK: f is the caller or is joining the
 * caller. */
int fiber_join(fiber_t *f, void **ret);

/* Detaches f: it frees itself when it ends. Callable from any thread. ESRCH: no such fiber. EINVAL:
 * f is already detached or another fiber is joining it. */
int fiber_detach(fiber_t *f);

/* Ends the calling fiber with the result ret. Runs its cleanup handlers and the destructors of its
 * keys, but does not unwind its stack. Does not return on a fiber; does nothing off a fiber.
 * pthread_exit and thrd_exit also end the calling fiber, and they do unwind its stack. */
void fiber_exit(void *ret);

/* Returns the calling fiber, or NULL off a fiber. Does not park. */
fiber_t *fiber_self(void);

/* Lets the other runnable fibers of this worker run first. Calls sched_yield(2) off a fiber. */
void fiber_yield(void);

/* Sleeps for at least ns nanoseconds of CLOCK_MONOTONIC. May park. EPERM: called off a fiber. */
int fiber_sleep(uint64_t ns);

/* Returns the number of f, or 0 if f is NULL or no longer exists. Fibers are numbered from 1 in the
 * order of their creation in this process. Does not park. */
uint64_t fiber_id(fiber_t *f);

/* Sets the name of f, or of the caller if f is NULL. ERANGE: the name is longer than 15 bytes.
 * ESRCH: no such fiber. */
int fiber_setname(fiber_t *f, const char *name);

/* Copies the name of f, or of the caller if f is NULL, to buf. A fiber without a name has the name
 * "". ERANGE: len is too small. ESRCH: no such fiber. */
int fiber_getname(fiber_t *f, char *buf, size_t len);

/* Writes one line per live fiber of the caller's runtime to fd: its number, name, worker, state and
 * the object it waits for. Called on a thread that is not a worker, it covers all runtimes. Meant
 * for debugging; in gdb: call fiber_dump(2). Does not park. */
void fiber_dump(int fd);

/* ---- Cancellation --------------------------------------------------------------------------- */
/* Cancellation is always deferred, like the default of pthreads. The cancellation points are
 * fiber_join, fiber_sleep, fiber_cond_wait, fiber_sem_wait and their timed forms, and
 * fiber_testcancel. If libaioshim.so is preloaded, the cancellation points that pthreads(7) lists
 * count too, whenever they wait. Locks, fiber_once and barriers are not cancellation points.
 * Cancelling a fiber runs its cleanup handlers and then the destructors of its keys; it does not
 * unwind the stack. */

#define FIBER_CANCELED ((void *)-1)
#define FIBER_CANCEL_ENABLE 0
#define FIBER_CANCEL_DISABLE 1
#define FIBER_CANCEL_DEFERRED 0
#define FIBER_CANCEL_ASYNCHRONOUS 1

/* Asks f to end with the result FIBER_CANCELED, and returns without waiting for that. If f is
 * waiting at a cancellation point, it ends at once and the interrupted wait has no effect; a wait
 * on a condition variable locks its mutex again first. Otherwise f ends at its next cancellation
 * point. EPERM: called off a fiber. ESRCH: no such fiber in this runtime. */
int fiber_cancel(fiber_t *f);

/* Enables or disables cancellation of the calling fiber; it is enabled at first. Stores the
 * previous state in *old unless old is NULL. Requests stay pending while cancellation is disabled.
 * EPERM: called off a fiber. EINVAL: no such state. */
int fiber_setcancelstate(int state, int *old);

/* Accepts only FIBER_CANCEL_DEFERRED. ENOTSUP: the type is FIBER_CANCEL_ASYNCHRONOUS. EPERM: called
 * off a fiber. EINVAL: no such type. */
int fiber_setcanceltype(int type, int *old);

/* Ends the calling fiber if its cancellation was requested. */
void fiber_testcancel(void);

/* Push and pop a cleanup handler. The two macros must be used as a pair in the same block, as with
 * pthreads. If the fiber is cancelled or calls fiber_exit between them, routine(arg) runs. Handlers
 * run in reverse order of their pushes. fiber_cleanup_pop with a nonzero argument also runs the
 * handler. */
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
/* The functions behind these macros, for use from other languages. *here must stay at its address
 * until it is left. Leave handlers in reverse order of entering them. */
void fiber_cleanup_enter(fiber_cleanup_t *here, void (*routine)(void *), void *arg);
void fiber_cleanup_leave(fiber_cleanup_t *here, int execute);

/* ---- Mutex ---------------------------------------------------------------------------------- */
/* Only fibers can lock and wait: off a fiber these operations return EPERM. Set each object up with
 * its initializer macro or its init function before use. */

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
    0 /* relocking deadlocks, which is reported; EPERM to unlock another fiber's */
#define FIBER_MUTEX_RECURSIVE 1  /* the owner may lock it again; EAGAIN after 2^32-1 relocks */
#define FIBER_MUTEX_ERRORCHECK 2 /* relocking returns EDEADLK */
#define FIBER_MUTEX_DEFAULT FIBER_MUTEX_NORMAL

int fiber_mutexattr_init(fiber_mutexattr_t *a);
int fiber_mutexattr_destroy(fiber_mutexattr_t *a);
int fiber_mutexattr_settype(fiber_mutexattr_t *a, int type);
int fiber_mutexattr_gettype(const fiber_mutexattr_t *a, int *type);

int fiber_mutex_init(fiber_mutex_t *m, const fiber_mutexattr_t *a);
/* EBUSY: the mutex is locked. */
int fiber_mutex_destroy(fiber_mutex_t *m);
/* May park. Waiting fibers get the lock in the order of their arrival. */
int fiber_mutex_lock(fiber_mutex_t *m);
/* EBUSY: the mutex is locked. */
int fiber_mutex_trylock(fiber_mutex_t *m);
/* Like fiber_mutex_lock, but return ETIMEDOUT once abstime has passed. timedlock measures abstime
 * on CLOCK_REALTIME; clocklock takes CLOCK_REALTIME or CLOCK_MONOTONIC. Setting the clock during
 * the wait does not move the deadline. EINVAL: the clock is not one of these or the nanoseconds are
 * out of range; a call that does not wait does not check this. The timed functions of the other
 * objects follow the same rules. */
int fiber_mutex_timedlock(fiber_mutex_t *m, const struct timespec *abstime);
int fiber_mutex_clocklock(fiber_mutex_t *m, int clock, const struct timespec *abstime);
/* EPERM: the caller does not own the mutex. */
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

/* attr is reserved and must be NULL. EINVAL: it is not. */
int fiber_cond_init(fiber_cond_t *c, const void *attr);
/* EBUSY: fibers are waiting. */
int fiber_cond_destroy(fiber_cond_t *c);
/* Unlocks m, waits for a signal, and locks m again before returning. May park. EPERM: the caller
 * does not own m. */
int fiber_cond_wait(fiber_cond_t *c, fiber_mutex_t *m);
/* Like fiber_cond_wait, with a deadline. m is locked again after ETIMEDOUT too. */
int fiber_cond_timedwait(fiber_cond_t *c, fiber_mutex_t *m, const struct timespec *abstime);
int fiber_cond_clockwait(fiber_cond_t *c, fiber_mutex_t *m, int clock,
                         const struct timespec *abstime);
/* Wake one waiter or all. Callable from any thread, on or off a fiber. */
int fiber_cond_signal(fiber_cond_t *c);
int fiber_cond_broadcast(fiber_cond_t *c);

/* ---- Semaphore ------------------------------------------------------------------------------ */

typedef struct fiber_sem {
    uint64_t opaque[4];
} fiber_sem_t;

/* EINVAL: value is greater than FIBER_SEM_VALUE_MAX. ENOSYS: pshared is not 0. */
#define FIBER_SEM_VALUE_MAX 0x7fffffff
int fiber_sem_init(fiber_sem_t *s, int pshared, unsigned value);
/* EBUSY: fibers are waiting. */
int fiber_sem_destroy(fiber_sem_t *s);
/* Takes a unit, and waits for one if the value is zero. May park. */
int fiber_sem_wait(fiber_sem_t *s);
/* Takes a unit without waiting. Callable from any thread. EAGAIN: the value is zero. */
int fiber_sem_trywait(fiber_sem_t *s);
/* Like fiber_sem_wait, with a deadline. */
int fiber_sem_timedwait(fiber_sem_t *s, const struct timespec *abstime);
int fiber_sem_clockwait(fiber_sem_t *s, int clock, const struct timespec *abstime);
/* Adds a unit. Callable from any thread, on or off a fiber. EOVERFLOW: the value is at its
 * maximum. */
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

/* attr is reserved and must be NULL. EINVAL: it is not. The lock is granted in the order of
 * arrival: a reader that arrives after a waiting writer waits behind it. */
int fiber_rwlock_init(fiber_rwlock_t *l, const void *attr);
/* EBUSY: the lock is held. */
int fiber_rwlock_destroy(fiber_rwlock_t *l);
/* May park. EDEADLK: the caller holds the lock for writing. */
int fiber_rwlock_rdlock(fiber_rwlock_t *l);
/* EBUSY: a writer holds the lock, or fibers wait for it. */
int fiber_rwlock_tryrdlock(fiber_rwlock_t *l);
/* Like fiber_rwlock_rdlock, with a deadline. */
int fiber_rwlock_timedrdlock(fiber_rwlock_t *l, const struct timespec *abstime);
int fiber_rwlock_clockrdlock(fiber_rwlock_t *l, int clock, const struct timespec *abstime);
/* May park. EDEADLK: the caller holds the lock for writing. */
int fiber_rwlock_wrlock(fiber_rwlock_t *l);
/* EBUSY: the lock is held. */
int fiber_rwlock_trywrlock(fiber_rwlock_t *l);
/* Like fiber_rwlock_wrlock, with a deadline. */
int fiber_rwlock_timedwrlock(fiber_rwlock_t *l, const struct timespec *abstime);
int fiber_rwlock_clockwrlock(fiber_rwlock_t *l, int clock, const struct timespec *abstime);
/* EPERM: the lock is not locked, or another fiber holds it for writing. */
int fiber_rwlock_unlock(fiber_rwlock_t *l);

/* ---- Barrier and once ----------------------------------------------------------------------- */

typedef struct fiber_barrier {
    uint64_t opaque[4];
} fiber_barrier_t;
#define FIBER_BARRIER_SERIAL_FIBER (-1)

/* EINVAL: count is 0 or attr is not NULL. */
int fiber_barrier_init(fiber_barrier_t *b, const void *attr, unsigned count);
/* EBUSY: fibers are waiting. */
int fiber_barrier_destroy(fiber_barrier_t *b);
/* Waits until count fibers have called it. May park. Returns FIBER_BARRIER_SERIAL_FIBER to one of
 * them and 0 to the others. EPERM: called off a fiber. */
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

/* Runs fn once. Fibers that call it while fn runs park until fn has returned. EPERM: called off a
 * fiber. */
int fiber_once(fiber_once_t *o, void (*fn)(void));

/* ---- Fiber-local storage -------------------------------------------------------------------- */

typedef unsigned fiber_key_t;
#define FIBER_KEYS_MAX 1024
#define FIBER_DESTRUCTOR_ITERATIONS 4

/* Creates a key. Every fiber has its own value for it, which is NULL until the fiber sets one. In
 * contrast, pthread keys and thread_local variables belong to the OS thread, and all its fibers
 * share them. When a fiber ends, the destructor, if any, runs for a value that is not NULL.
 * Callable from any thread. EAGAIN: FIBER_KEYS_MAX keys exist already. */
int fiber_key_create(fiber_key_t *key, void (*destructor)(void *));
/* Deletes a key without running destructors. EINVAL: no such key. */
int fiber_key_delete(fiber_key_t key);
/* Returns NULL off a fiber, before the first set, and if the key does not exist. */
void *fiber_getspecific(fiber_key_t key);
/* EINVAL: no such key. ENOMEM: out of memory. EPERM: called off a fiber. */
int fiber_setspecific(fiber_key_t key, const void *value);

#ifdef __cplusplus
}
#endif
#endif
