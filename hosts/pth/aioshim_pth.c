/* SPDX-License-Identifier: MIT */
/* libaioshim_pth.so - attaches GNU Pth to libaioshim.so, without a change to the program:
 *
 *     LD_PRELOAD=libaioshim_pth.so:libaioshim.so PROGRAM
 *
 * Pth asks for the events of all waiting threads each round, and cannot be told of one while it
 * sleeps in its own select. Therefore it never sleeps there: a thread of the lowest priority is
 * always ready, and sleeps in the shim instead, for at most a millisecond at a time while threads
 * wait for events of Pth's own. */
#define _GNU_SOURCE
#include <pth.h>
#include <stdlib.h>

#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "aioshim_host.h"

enum { SHORT_NS = 1000000 };

struct waiter {
    int ready;
};

static aioshim_functions_t shim;
static aioshim_thread_t *thread; /* NULL: not attached */
static unsigned ready, parked, joining;
static pth_t idle;
static pth_key_t key = PTH_KEY_INIT;

static void out_of_memory(void)
{
    fprintf(stderr, "aioshim: Pth: out of memory\n");
    abort();
}

/* What a thread waits on; its address identifies the thread. */
static struct waiter *own_waiter(void)
{
    struct waiter *own = pth_key_getdata(key);
    if (own)
        return own;
    own = calloc(1, sizeof *own);
    if (!own || !pth_key_setdata(key, own))
        out_of_memory();
    return own;
}

/* ---- The callbacks -------------------------------------------------------------------------- */

static void *running(void *data)
{
    (void)data;
    pth_t self = pth_self();
    return self && self != idle ? own_waiter() : NULL;
}

static unsigned runnable(void *data)
{
    (void)data;
    return ready;
}

static void unpark(void *data, void *fiber)
{
    (void)data;
    ((struct waiter *)fiber)->ready = 1;
    ready++;
}

static int is_ready(void *waiter) { return ((struct waiter *)waiter)->ready; }

static void park(void *data)
{
    (void)data;
    struct waiter *own = own_waiter();
    parked++;
    while (!own->ready) {
        pth_event_t event = pth_event(PTH_EVENT_FUNC, is_ready, own, pth_time(1000, 0));
        if (!event)
            out_of_memory();
        pth_wait(event);
        pth_event_free(event, PTH_FREE_THIS);
    }
    parked--;
    own->ready = 0;
    ready--;
}

static void yield(void *data)
{
    (void)data;
    pth_yield(NULL);
}

static void wake(void *data)
{
    (void)data;
    shim.wake(thread);
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
    .library = "GNU Pth",
};

/* ---- The idle thread, and the functions that stand in front of others ----------------------- */

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) {
        fprintf(stderr, "aioshim: Pth: %s: %s\n", name, dlerror());
        abort();
    }
    return function;
}

/* All threads wait for locks or for the end of other threads. */
static void check_deadlock(void)
{
    if (!parked || !aioshim_is_deadlock(&shim, thread, 0))
        return;
    fprintf(stderr,
            "aioshim: Pth: deadlock: %u threads wait for locks, and nothing can wake any of them\n",
            parked);
    abort();
}

static void *sleep_in_shim(void *unused)
{
    for (;;) {
        long others = pth_ctrl(PTH_CTRL_GETTHREADS_READY | PTH_CTRL_GETTHREADS_NEW);
        long waiting = pth_ctrl(PTH_CTRL_GETTHREADS_WAITING);
        if (others == 0 && !ready && waiting == (long)(parked + joining))
            check_deadlock();
        if (others > 0 || ready)
            shim.poll(thread, 0);
        else
            shim.poll(thread, waiting > (long)parked ? SHORT_NS : -1);
        pth_yield(NULL);
    }
    return unused;
}

int pth_join(pth_t other, void **result)
{
    int (*real)(pth_t, void **) = (int (*)(pth_t, void **))next("pth_join");
    joining++;
    int joined = real(other, result);
    joining--;
    return joined;
}

int pth_init(void)
{
    int (*real)(void) = (int (*)(void))next("pth_init");
    int result = real();
    if (!result || thread || !aioshim_find(&shim))
        return result;
    pth_attr_t attributes = pth_attr_new();
    if (!attributes || !pth_key_create(&key, free))
        out_of_memory();
    if (shim.attach(&table, NULL, &thread) != 0) {
        thread = NULL;
        return result;
    }
    pth_attr_set(attributes, PTH_ATTR_NAME, "aioshim");
    pth_attr_set(attributes, PTH_ATTR_PRIO, PTH_PRIO_MIN);
    pth_attr_set(attributes, PTH_ATTR_JOINABLE, FALSE);
    idle = pth_spawn(attributes, sleep_in_shim, NULL);
    pth_attr_destroy(attributes);
    if (!idle)
        out_of_memory();
    return result;
}
