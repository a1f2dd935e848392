/* SPDX-License-Identifier: MIT */
/* aioshim.h - the host table: the interface between a green-thread scheduler and libaioshim.so.
 *
 * libaioshim.so is preloaded, never linked. A scheduler (the host) looks up its functions with
 * dlsym(RTLD_DEFAULT, ...) or weak symbols. If they are absent, the library is not preloaded, and
 * the scheduler runs as usual. Each OS thread that runs fibers attaches itself and passes a table
 * of callbacks, five of them mandatory. From then on, a blocking libc call made on one of its
 * fibers becomes an asynchronous operation:
 *
 *     a fiber calls read()     the shim queues the operation, then calls host->park()
 *     the host runs others     and calls aioshim_poll(t, 0) once per scheduling round
 *     nothing is runnable      the host calls aioshim_poll(t, time until its next timer, or -1)
 *     the operation completes  inside aioshim_poll the shim calls host->unpark(fiber)
 *     the host resumes it      park() returns, then read() returns
 *
 * Rules:
 * - A fiber parked by the shim is resumed on the OS thread on which it parked. Between its calls it
 *   may move to another attached thread.
 * - The shim calls the callbacks on the attached thread, either on a fiber's stack or inside
 *   aioshim_poll. The exceptions are wake and name, which it may call from any thread. With
 *   AIOSHIM_ESCAPES=1 it also calls running in the middle of any system call of the thread.
 * - Callbacks must not call the functions below, with these exceptions: wake may call aioshim_wake,
 *   cancelled may call aioshim_leaving, and park, from which the scheduler runs, may call all of
 *   them.
 * - While a fiber is parked, its stack stays in place and nothing runs on it until unpark, because
 *   the kernel writes to buffers on it.
 *
 * docs/hosts.md walks through a complete host; docs/host-table.md describes each callback and
 * function.
 *
 * Versions: a later version of this header only adds to the end of the table, and adds functions. A
 * host that was compiled with an earlier header runs with a later library, and the other way round;
 * a library ignores what it does not know. A host includes this header like this:
 *
 *     #define AIOSHIM_USE_VERSION 2
 *     #include <aioshim.h>
 *
 * It then sees the table of version 2 in this header and in all later ones, so its source keeps its
 * meaning. Without the macro it sees version 1. aioshim_features says what the library in use
 * supports. */
#ifndef AIOSHIM_H
#define AIOSHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The newest version of the table that this header knows. */
#define AIOSHIM_TABLE_VERSION 2

#ifndef AIOSHIM_USE_VERSION
#define AIOSHIM_USE_VERSION 1
#endif
#if AIOSHIM_USE_VERSION < 1 || AIOSHIM_USE_VERSION > AIOSHIM_TABLE_VERSION
#error "AIOSHIM_USE_VERSION names a version of the table that this aioshim.h does not know"
#endif

#define AIOSHIM_VERSION_MAJOR 0
#define AIOSHIM_VERSION_MINOR 1
#define AIOSHIM_VERSION_PATCH 0
/* Version of the library in use: major << 16 | minor << 8 | patch. */
unsigned aioshim_version(void);

/* What the library in use supports: the AIOSHIM_HOST_* flags that it heeds, and AIOSHIM_FEATURE_*
 * bits. A library that lacks this function supports the first four flags and no feature. */
uint64_t aioshim_features(void);

/* aioshim_fd and aioshim_arm */
#define AIOSHIM_FEATURE_FD (UINT64_C(1) << 32)
/* aioshim_watch_fd */
#define AIOSHIM_FEATURE_WATCH_FD (UINT64_C(1) << 33)
/* aioshim_ended */
#define AIOSHIM_FEATURE_ENDED (UINT64_C(1) << 34)
/* aioshim_save and aioshim_restore */
#define AIOSHIM_FEATURE_VALUES (UINT64_C(1) << 35)
/* the callback yield */
#define AIOSHIM_FEATURE_YIELD (UINT64_C(1) << 36)
/* library and the callback counts */
#define AIOSHIM_FEATURE_COUNTS (UINT64_C(1) << 37)
/* aioshim_all_blocked and aioshim_is_asleep */
#define AIOSHIM_FEATURE_DEADLOCK (UINT64_C(1) << 38)

/* An attached OS thread. */
typedef struct aioshim_thread aioshim_thread_t;

/* Two words that the shim reads instead of calling the host. With AIOSHIM_STALL other threads read
 * them too. Both stay at the same address until the thread detaches. */
typedef struct aioshim_watch {
    const uint32_t *turns; /* changes whenever a fiber starts or resumes */
    void *const *running;  /* the running fiber, NULL on the scheduler's own stack */
} aioshim_watch_t;

/* Two words in which the host counts its fibers. Any thread may read them until the thread
 * detaches; the host writes them with plain aligned 64-bit stores. */
typedef struct aioshim_counts {
    const uint64_t *started; /* fibers that have run on this thread */
    const uint64_t *ended;   /* how many of them have ended */
} aioshim_counts_t;

/* The host's callbacks and properties. Set size to sizeof(aioshim_host_t): it tells versions of the
 * table apart. Each callback gets data, the argument of aioshim_attach. The table must outlive the
 * attachment. */
typedef struct aioshim_host {
    size_t size;
    /* Returns the fiber that is running on this thread, NULL on the scheduler's own stack. Called
     * on every converted call. */
    void *(*running)(void *data);
    /* Switches away from the running fiber and returns, on that fiber, after its unpark. Need not
     * preserve errno. */
    void (*park)(void *data);
    /* Makes fiber runnable, behind the fibers that are runnable already. Called exactly once per
     * park. For the running fiber the call may precede the park: the shim yields by unpark(self),
     * park(). */
    void (*unpark)(void *data, void *fiber);
    /* Returns how many fibers of this thread are runnable, not counting the running one. Called on
     * every converted call. */
    unsigned (*runnable)(void *data);
    /* Called from any thread: makes the attached thread call aioshim_poll soon. If the host's
     * threads sleep only inside aioshim_poll, call aioshim_wake here. */
    void (*wake)(void *data);
    /* Optional (NULL means always 0). Tells whether blocking this thread would delay another fiber.
     * Return 2 if the running fiber is the only living fiber of its thread. Return 1 if no other
     * fiber of the thread can become runnable for about 5 ms (longer than a disk access) unless
     * another thread wakes one; no host timer may expire in that time. Otherwise return 0. With 2
     * the shim makes any call as a plain blocking call; with 1 it does so only for calls that wait
     * for a disk at most.
     * If others are runnable, it is called when a fiber has used up its quantum. A host may then
     * return -1: all of them yielded when they last ran (by unpark of the running fiber and park),
     * nothing has happened to any fiber since, and no host timer expires within about 5 ms. The
     * fiber then keeps the thread for up to 3 ms. */
    int (*alone)(void *data);
    /* Optional. Fills in *out, or leaves it as it is. */
    void (*watch)(void *data, aioshim_watch_t *out);
    /* Optional, called from any thread: writes a readable name of a fiber that ran a moment ago
     * ("fiber 7 \"reader\"") to buf, truncated to len and NUL-terminated, and returns the full
     * length. The fiber may have ended by then; leave this NULL if the host cannot handle that. */
    size_t (*name)(void *data, const void *fiber, char *buf, size_t len);
    /* Optional. Called on a fiber when a call begins, or after aioshim_cancel ended a call that
     * had no effect yet. If the host wants the fiber cancelled, it ends the fiber here and does not
     * return. If it returns, the call continues or fails with EINTR. The shim also calls this after
     * other interruptions: the host must know which of its fibers it has cancelled. */
    void (*cancelled)(void *data);
    /* Optional. Nonzero: the host saves and restores each fiber's C++ exception state
     * (__cxa_get_globals) and locale (uselocale) at every switch. If 0, the shim does so when it
     * parks a fiber, and switches that the shim does not see must happen outside of catch blocks.
     */
    int keeps_runtimes;
    /* Optional: properties of the host, a combination of AIOSHIM_HOST_* flags, or 0. */
    uint64_t flags;
#if AIOSHIM_USE_VERSION >= 2
    /* Optional. Lets the other runnable fibers run, and returns on the running fiber when it is its
     * turn again. If NULL, the shim yields by unpark(self), park(). For a host whose unpark cannot
     * take the running fiber. */
    void (*yield)(void *data);
    /* Optional: the name and version of the host's library ("State Threads 1.9") for the
     * statistics. It stays in place until the thread detaches. */
    const char *library;
    /* Optional, called once, in aioshim_attach. Fills in *out for the statistics, or leaves it as
     * it is. */
    void (*counts)(void *data, aioshim_counts_t *out);
#endif
} aioshim_host_t;

/* The shim leaves mutexes, condition variables, semaphores and all other locks to libc on this
 * host's fibers: waiting for one blocks the thread. This is for a host with a global lock of its
 * own (CPython's GIL, Ruby's GVL) that cannot park while it waits for that lock. AIOSHIM_LOCKS=off
 * does the same for every host. */
#define AIOSHIM_HOST_PLAIN_LOCKS UINT64_C(1)
/* In the child of a fork, the host runs no fiber except the one that forked, either by design or
 * because a pthread_atfork handler of its own discards the others. The child's calls are then
 * converted as in the parent. Without this flag the child's calls pass through to libc, because
 * parking could run the parent's other fibers a second time. Calling aioshim_attach again in the
 * child gives a new handle and turns conversion on again. */
#define AIOSHIM_HOST_FORKS UINT64_C(2)
/* The host's threads sleep only inside aioshim_poll. The shim then does not call wake when an
 * operation completes. */
#define AIOSHIM_HOST_SLEEPS_IN_POLL UINT64_C(4)
/* The shim never lets other fibers run in a call that does not wait. Without this flag, a fiber
 * whose calls all return at once yields after some of them, by unpark(self), park(). Calls that
 * wait in turns, such as sched_yield and barriers, still do. */
#define AIOSHIM_HOST_NO_YIELDS UINT64_C(8)

/* Attaches the calling OS thread and stores its handle in *out. Returns 0, or EINVAL (bad table),
 * EBUSY (already attached), ENOMEM, or ENOTSUP (the shim is switched off by AIOSHIM=off, or a
 * seccomp filter blocks its system calls). After an error the host runs as if nothing were
 * preloaded. */
int aioshim_attach(const aioshim_host_t *host, void *data, aioshim_thread_t **out);

/* Opens the descriptors that t needs. Otherwise the shim opens them on first use; it moves each to
 * a high number, but for an instant it occupies the lowest free one, and a fiber on another thread
 * may rely on getting that number. A host with several threads calls this on each of them before
 * any of them runs a fiber. Call it on t's thread. */
void aioshim_prepare(aioshim_thread_t *t);

/* Detaches the calling thread. Returns 0, EBUSY if operations of its fibers are in flight, or
 * EINVAL if t is not the calling thread's handle. */
int aioshim_detach(aioshim_thread_t *t);

/* Submits the queued operations, reaps completions and unparks the fibers that waited for them. If
 * nothing has completed, waits up to timeout_ns nanoseconds for a completion or an aioshim_wake (0:
 * does not wait; negative: waits without limit). Returns the number of fibers it unparked. */
int aioshim_poll(aioshim_thread_t *t, int64_t timeout_ns);

/* Returns a descriptor for the host's own event loop, or -1 if none can be opened. It becomes
 * readable when aioshim_poll has something to do. It belongs to the shim: do not read or close it,
 * only wait for it in poll, epoll or io_uring (its number is too high for select). It stays the
 * same until the thread detaches; the child of a fork asks again. Before each sleep call
 * aioshim_arm, and after it aioshim_poll. Call this on t's thread. From the first call on, the shim
 * does not call wake when an operation completes. */
int aioshim_fd(aioshim_thread_t *t);

/* Polls without waiting, and prepares t's thread for a sleep in the host's event loop. Returns 0 if
 * it must not sleep, because something became runnable; otherwise the number of nanoseconds after
 * which it must call aioshim_poll, or -1 if the descriptor of aioshim_fd alone tells when. Call it
 * on t's thread, on the scheduler's own stack, when nothing is runnable. */
int64_t aioshim_arm(aioshim_thread_t *t);

/* Makes aioshim_poll return when fd is ready for events, a set of EPOLLIN, EPOLLOUT and so on as
 * for epoll_ctl; 0 ends that. The host then looks at fd itself: aioshim_poll returns at once as
 * long as it is ready. Several descriptors may be watched. A descriptor that is closed is forgotten
 * when its file is. The child of a fork watches none. Returns 0 or an error of epoll_ctl, for
 * example EPERM for a regular file, or EMFILE. Call it on t's thread. */
int aioshim_watch_fd(aioshim_thread_t *t, int fd, uint32_t events);

/* Tells that fiber has ended, so that what the shim keeps for it is not found by the next fiber at
 * the same address: results in static memory (h_errno, getpwnam), its own locale, exceptions, and
 * marks of cancellation. The fiber must not be parked in the shim. Call it on t's thread, on the
 * ended fiber's stack or on the scheduler's, before another fiber runs. Hosts that do not call it
 * keep at most some megabytes a thread. */
void aioshim_ended(aioshim_thread_t *t, void *fiber);

/* The values of a fiber that libc and the C++ library keep for its thread. Opaque. */
typedef struct aioshim_values {
    uintptr_t words[8];
} aioshim_values_t;

/* Takes errno, the C++ exception state and the locale (uselocale) of the running fiber, and gives
 * the thread its own back. A host calls these two around a switch of its own, such as its yield or
 * its channel, if fibers may switch inside catch blocks or with a locale of their own. Needless
 * around a park of the shim, and for a host with keeps_runtimes. t is the running thread, which may
 * be another one when the values are restored. */
void aioshim_save(aioshim_thread_t *t, aioshim_values_t *out);
void aioshim_restore(aioshim_thread_t *t, const aioshim_values_t *values);

/* Ends t's wait in aioshim_poll, or makes the next one return at once. May be called from any
 * thread. */
void aioshim_wake(aioshim_thread_t *t);

/* Ends the call that a fiber of t is parked in, if that call is a cancellation point and can be
 * ended. The fiber is unparked, and its call invokes the host's cancelled callback. A call that has
 * already transferred data returns its result as usual. Call this on t's thread, on the scheduler's
 * own stack. Returns 0, or ESRCH if the fiber is not in a wait that can be ended; call again when
 * it next parks. */
int aioshim_cancel(aioshim_thread_t *t, const void *fiber);

/* Ends the poll, select or epoll_wait (or a variant of these) that a fiber of t is parked in as if
 * its time were up: it returns what is ready, or 0. For a host whose scheduler is itself a fiber
 * that waits in its own event loop: it then looks at its run queue. Call this on t's thread.
 * Returns 0, or ESRCH if the fiber is not parked in such a call. The fiber may be unparked before
 * this returns, or later, in aioshim_poll. */
int aioshim_expire(aioshim_thread_t *t, const void *fiber);

/* Call this on a fiber that is about to end from inside a callback that libc called, without
 * returning from it and without unwinding the stack. It ends the operation that the shim is running
 * for the fiber (for example a walk of nftw that called back). May block for a moment. */
void aioshim_leaving(aioshim_thread_t *t);

/* Returns how many fibers of t are parked in the shim on something that can still wake them. */
size_t aioshim_in_flight(const aioshim_thread_t *t);

/* Returns how many of these fibers can be woken only by another fiber or thread, because they wait
 * without a time limit for a lock, a file position or a stream. Locks that other processes may
 * release do not count, nor do semaphores if the program handles signals. If this equals
 * aioshim_in_flight, nothing is runnable, the host has no timers, and the process has no other
 * threads, then the host is in a deadlock. Call it on t's thread. */
size_t aioshim_blocked(const aioshim_thread_t *t);

/* Returns 1 if fibers of t are parked in the shim and all of them are blocked as above, otherwise
 * 0. Faster than the comparison of the two numbers. Call it on t's thread. */
int aioshim_all_blocked(const aioshim_thread_t *t);

/* Returns 1 if t's thread sleeps in aioshim_poll and no other thread has sent it anything. A host
 * with several threads is in a deadlock only if this holds for all of them except the calling one.
 * May be called from any thread while t is attached. */
int aioshim_is_asleep(const aioshim_thread_t *t);

/* Writes what a parked fiber of t waits for ("read(5)") to buf, truncated to len and
 * NUL-terminated. Returns the full length, or 0 if the fiber is not parked in the shim. For
 * reports; call it on t's thread. */
size_t aioshim_describe(const aioshim_thread_t *t, const void *fiber, char *buf, size_t len);

#ifdef __cplusplus
}
#endif
#endif
