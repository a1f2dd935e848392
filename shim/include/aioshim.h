/* SPDX-License-Identifier: MIT */
/* aioshim.h - the host table: how a green-thread scheduler meets libaioshim.so.
 *
 * libaioshim.so is preloaded, never linked. A scheduler looks its functions up with
 * dlsym(RTLD_DEFAULT, ...) (or weak symbols); absent means not preloaded, and nothing else changes.
 * Each OS thread that runs fibers attaches itself and gives five verbs. From then on a blocking
 * libc call made on one of its fibers becomes an asynchronous operation:
 *
 *     fiber calls read()      the shim queues the operation, then calls host->park()
 *     the host runs others    and each scheduling round calls aioshim_poll(t, 0)
 *     nothing left to run     the host calls aioshim_poll(t, timeout until its next timer, or -1)
 *     the operation is done   inside aioshim_poll the shim calls host->unpark(fiber)
 *     the host resumes it     park() returns, read() returns
 *
 * Rules: a fiber stays on the thread it first ran on. All verbs but wake are called on the attached
 * thread, on the stack of a fiber or inside aioshim_poll; they must not call back into this table,
 * except wake. A parked fiber's stack stays in place and is not run until its unpark: the kernel
 * writes to it. docs/hosts.md walks through a complete host. */
#ifndef AIOSHIM_H
#define AIOSHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOSHIM_VERSION_MAJOR 0
#define AIOSHIM_VERSION_MINOR 1
#define AIOSHIM_VERSION_PATCH 0
/* Version of the library in use: major << 16 | minor << 8 | patch. */
unsigned aioshim_version(void);

/* An attached OS thread. */
typedef struct aioshim_thread aioshim_thread_t;

/* What the shim may look at instead of asking, and other threads for AIOSHIM_STALL. Both words stay
 * in place until the detach. */
typedef struct aioshim_watch {
    const uint32_t *turns; /* changes whenever a fiber begins to run or goes on */
    void *const *running;  /* the fiber that runs, NULL on the scheduler's own stack */
} aioshim_watch_t;

/* What the host gives. size is sizeof(aioshim_host_t), so that the table can grow; data is the
 * attach argument. The table must outlive the attachment. */
typedef struct aioshim_host {
    size_t size;
    /* The fiber that runs on this thread now, NULL on the scheduler's own stack. Called on every
     * converted call. */
    void *(*running)(void *data);
    /* Switches away from the running fiber; returns on it after its unpark. errno need not be kept.
     */
    void (*park)(void *data);
    /* Makes fiber runnable behind those that are already. Once for each park; for the running fiber
     * it may come just before its park: unpark(self), park() is how the shim yields. */
    void (*unpark)(void *data, void *fiber);
    /* How many fibers could run on this thread now, the running one not counted. Called on every
     * converted call. */
    unsigned (*runnable)(void *data);
    /* From any thread: makes the attached thread call aioshim_poll soon. A host whose threads only
     * ever sleep inside aioshim_poll calls aioshim_wake here. */
    void (*wake)(void *data);
    /* Optional (NULL: always 0). Asked when nothing is runnable. 2: the running fiber is the only
     * living one of its thread. 1: no other of its thread can run before it parks, for longer than
     * a disk takes (so no timer of the host's goes off within some 5 ms), unless another thread
     * wakes it. 0: else. The shim then makes plain calls, which delay nobody: at 2 any, at 1 those
     * that wait for a disk at most. */
    int (*alone)(void *data);
    /* Optional. Says where these are. */
    void (*watch)(void *data, aioshim_watch_t *out);
    /* Optional, from any thread: writes what people call a fiber that ran a moment ago ("fiber 7
     * \"reader\"") to buf, cut to len and NUL-ended; returns the full length. It may be gone
     * meanwhile: a host that cannot tell has no such verb. */
    size_t (*name)(void *data, const void *fiber, char *buf, size_t len);
    /* Optional. On a fiber, at the end of a call that aioshim_cancel ended before anything came of
     * it, or at the beginning of one: a host that wants the fiber cancelled ends it here and does
     * not return. If it does, the call goes on, or fails with EINTR. Called for whatever interrupts
     * a call: the host knows which fibers it has cancelled. */
    void (*cancelled)(void *data);
    /* Optional. Nonzero: at every switch the host itself keeps its fibers' C++ exceptions
     * (__cxa_get_globals) and locales (uselocale) apart. Else the shim does so when it parks a
     * fiber; a switch that it does not see must happen outside of catch blocks. */
    int keeps_runtimes;
    /* Optional: what is said of the host, AIOSHIM_HOST_*, or 0. */
    uint64_t flags;
} aioshim_host_t;

/* Mutexes, conditions, semaphores and all other locks stay libc's on this host's fibers: waiting
 * for one blocks the thread. For a host with a global lock of its own (CPython's GIL, Ruby's GVL),
 * whose park must not be called while it waits for that lock. AIOSHIM_LOCKS=off does the same for
 * every host. */
#define AIOSHIM_HOST_PLAIN_LOCKS UINT64_C(1)
/* In the child of a fork the host runs no fiber but the one that forked: from a pthread_atfork
 * handler of its own, or by construction. The child's calls are then converted as before. Without
 * this flag they pass through in the child, where a wait would let the parent's other fibers run a
 * second time; aioshim_attach, called again there, gives a new handle and has them converted again.
 */
#define AIOSHIM_HOST_FORKS UINT64_C(2)
/* The host's threads sleep nowhere but inside aioshim_poll, so that wake need not be called when an
 * operation is done. */
#define AIOSHIM_HOST_SLEEPS_IN_POLL UINT64_C(4)

/* Attaches the calling OS thread; *out is its handle. EINVAL bad table, EBUSY attached already,
 * ENOMEM, ENOTSUP switched off (AIOSHIM=off): the host then runs as if nothing were preloaded. */
int aioshim_attach(const aioshim_host_t *host, void *data, aioshim_thread_t **out);

/* Opens now the descriptors that t needs. Else that is done when it is first needed, and a new
 * descriptor has the lowest free number for an instant, which a fiber on another thread may count
 * on. A host with several threads calls it in each before any runs fibers. On t's thread. */
void aioshim_prepare(aioshim_thread_t *t);

/* Detaches the calling thread. EBUSY while operations of its fibers are in flight, EINVAL not the
 * caller's. */
int aioshim_detach(aioshim_thread_t *t);

/* Submits what is queued, reaps what is done, unparks. Waits up to timeout_ns nanoseconds while
 * nothing is done and nobody wakes it: 0 not at all, negative without limit. Returns how many
 * fibers it unparked. */
int aioshim_poll(aioshim_thread_t *t, int64_t timeout_ns);

/* From any thread: ends t's wait in aioshim_poll, or lets the next one not wait. */
void aioshim_wake(aioshim_thread_t *t);

/* Ends the call that a fiber of t is parked in, if it is a cancellation point and can be ended: the
 * fiber is unparked, and in its call the host's cancelled is called. A call that has moved data
 * returns it as ever. On t's thread, on the scheduler's own stack. ESRCH: it waits for nothing that
 * could be ended; ask again when it next parks. */
int aioshim_cancel(aioshim_thread_t *t, const void *fiber);

/* On a fiber that is about to end without returning from what it is in, and without unwinding its
 * stack: ends what the shim has under way for it (a walk of nftw whose call-back it is in). May
 * block for a moment. */
void aioshim_leaving(aioshim_thread_t *t);

/* How many fibers of t are parked in the shim, on something that can still wake them. */
size_t aioshim_in_flight(const aioshim_thread_t *t);

/* Writes what a parked fiber of t waits for ("read(5)") to buf, cut to len and NUL-ended; returns
 * the full length, 0 when the fiber is not parked in the shim. For reports, on t's thread. */
size_t aioshim_describe(const aioshim_thread_t *t, const void *fiber, char *buf, size_t len);

#ifdef __cplusplus
}
#endif
#endif
