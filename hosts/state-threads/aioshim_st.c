/* SPDX-License-Identifier: MIT */
/* libaioshim_st.so - attaches State Threads to libaioshim.so, without a change to the program:
 *
 *     LD_PRELOAD=libaioshim_st.so:libaioshim.so PROGRAM
 *
 * The idle thread of State Threads waits in select, poll or epoll_wait. Without descriptors that is
 * a sleep, in the shim. With descriptors the idle thread is a fiber like any other, whose call is
 * converted, and parks. While it waits no other thread can run, so its park polls the shim. When
 * the shim makes a thread runnable, the wait of the idle thread ends as if its time were up, and
 * State Threads looks at its queue. */
#define _GNU_SOURCE
#include <poll.h>
#include <st.h>
#include <stdlib.h>
#include <sys/select.h>

#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "aioshim_host.h"

static aioshim_functions_t shim;
static aioshim_thread_t *thread; /* NULL: not attached */
static st_thread_t idle;
static int in_st_init, idle_ended, key;
static int idle_sleeps; /* in the shim, as a scheduler */
static unsigned ready, parked;
static uint64_t started, ended; /* threads that have made calls */

/* What a thread parks on. It is found through the thread's key, which only the thread itself can
 * read, so its address identifies the thread. */
struct waiter {
    st_cond_t cond;
    int ready;
};

static void out_of_memory(void)
{
    fprintf(stderr, "aioshim: State Threads: out of memory\n");
    abort();
}

static void forget(void *waiter)
{
    st_cond_destroy(((struct waiter *)waiter)->cond);
    free(waiter);
    ended++;
}

static struct waiter *own_waiter(void)
{
    struct waiter *own = st_thread_getspecific(key);
    if (own)
        return own;
    own = calloc(1, sizeof *own);
    if (!own || !(own->cond = st_cond_new()) || st_thread_setspecific(key, own) != 0)
        out_of_memory();
    started++;
    return own;
}

/* ---- The callbacks -------------------------------------------------------------------------- */

static void *running(void *data)
{
    (void)data;
    if (st_thread_self() != idle)
        return own_waiter();
    return idle_sleeps ? NULL : &idle;
}

/* State Threads does not tell how many threads are runnable: these are the ones of the shim. */
static unsigned runnable(void *data)
{
    (void)data;
    return ready;
}

static void unpark(void *data, void *fiber)
{
    (void)data;
    if (fiber == &idle) {
        idle_ended = 1;
        return;
    }
    struct waiter *waiter = fiber;
    waiter->ready = 1;
    ready++;
    st_cond_signal(waiter->cond);
}

static void check_deadlock(void)
{
    if (!parked || !aioshim_is_deadlock(&shim, thread, 0))
        return;
    fprintf(stderr,
            "aioshim: State Threads: deadlock: %u threads wait for locks, and nothing can wake any "
            "of them\n",
            parked);
    abort();
}

static void park_idle(void)
{
    while (!idle_ended) {
        shim.poll(thread, ready ? 0 : -1);
        if (ready && !idle_ended)
            shim.expire(thread, &idle);
    }
    idle_ended = 0;
}

static void park(void *data)
{
    (void)data;
    if (st_thread_self() == idle) {
        park_idle();
        return;
    }
    struct waiter *own = own_waiter();
    parked++;
    /* An interrupt by st_thread_interrupt ends a wait of State Threads, but not one of the shim. */
    while (!own->ready)
        st_cond_wait(own->cond);
    parked--;
    own->ready = 0;
    ready--;
}

/* The idle thread is the only one that runs while it waits. */
static void yield(void *data)
{
    (void)data;
    if (st_thread_self() != idle)
        st_usleep(0);
}

static void wake(void *data)
{
    (void)data;
    shim.wake(thread);
}

static void counts(void *data, aioshim_counts_t *out)
{
    (void)data;
    out->started = &started;
    out->ended = &ended;
}

static const aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL,
    .yield = yield,
    .library = "State Threads",
    .counts = counts,
};

/* ---- The functions that stand in front of others -------------------------------------------- */

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) {
        fprintf(stderr, "aioshim: State Threads: %s: %s\n", name, dlerror());
        abort();
    }
    return function;
}

st_thread_t st_thread_create(void *(*start)(void *), void *arg, int joinable, int stack_size)
{
    st_thread_t (*real)(void *(*)(void *), void *, int, int) =
        (st_thread_t(*)(void *(*)(void *), void *, int, int))next("st_thread_create");
    st_thread_t made = real(start, arg, joinable, stack_size);
    if (in_st_init)
        idle = made;
    return made;
}

int st_init(void)
{
    int (*real)(void) = (int (*)(void))next("st_init");
    if (thread)
        return real();
    in_st_init = 1;
    int result = real();
    in_st_init = 0;
    if (result != 0 || !aioshim_find(&shim))
        return result;
    if (!idle || !shim.expire || st_key_create(&key, forget) != 0)
        fprintf(stderr, "aioshim: State Threads: cannot attach to this version\n");
    else if (shim.attach(&table, NULL, &thread) != 0)
        thread = NULL;
    return result;
}

/* The waits of the idle thread. Those for descriptors continue in the functions of libaioshim.so.
 * The others are sleeps of the scheduler, in the shim. */

static int is_idle(void) { return thread && st_thread_self() == idle; }

/* Sleeps until a thread can run or the time is up; a negative time is no limit. */
static int sleep_in_shim(int64_t nanoseconds)
{
    idle_sleeps = 1;
    if (nanoseconds < 0 && !ready)
        check_deadlock();
    shim.poll(thread, ready ? 0 : nanoseconds);
    idle_sleeps = 0;
    return 0;
}

int select(int count, fd_set *reads, fd_set *writes, fd_set *errors, struct timeval *limit)
{
    static int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    if (!real)
        real = (int (*)(int, fd_set *, fd_set *, fd_set *, struct timeval *))next("select");
    if (count == 0 && is_idle())
        return sleep_in_shim(limit ? limit->tv_sec * INT64_C(1000000000) + limit->tv_usec * 1000
                                   : -1);
    return real(count, reads, writes, errors, limit);
}

int poll(struct pollfd *files, nfds_t count, int limit)
{
    static int (*real)(struct pollfd *, nfds_t, int);
    if (!real)
        real = (int (*)(struct pollfd *, nfds_t, int))next("poll");
    if (count == 0 && is_idle())
        return sleep_in_shim(limit < 0 ? -1 : limit * INT64_C(1000000));
    return real(files, count, limit);
}
