/* SPDX-License-Identifier: MIT */
/* libaioshim_pth.so - attaches GNU Pth to libaioshim.so, without a change to the program:
 *
 *     LD_PRELOAD=libaioshim_pth.so:libaioshim.so PROGRAM
 *
 * Pth asks for the events of all waiting threads after each switch. Therefore a thread that parks
 * does not wait for an event: it yields, and the next thread that runs suspends it. Suspended
 * threads cost Pth nothing.
 *
 * A thread of the lowest priority, the idle thread, polls the shim once a round. If nothing is
 * ready it sleeps in the shim, or, while threads wait for events of Pth's own, in Pth: the
 * descriptor of the shim is then one of the events in Pth's select. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pth.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/select.h>
#include <unistd.h>

#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "aioshim_host.h"

/* How long to sleep in the shim while threads wait in Pth, if its select cannot watch the shim. */
enum { SHORT_NS = 1000000 };

/* What a thread parks on; its address identifies the thread. */
struct waiter {
    pth_t owner;
    int ready;                       /* unparked */
    int suspended;                   /* by this adapter */
    int held;                        /* suspended by the program as well */
    int cancelled;                   /* by the program */
    struct waiter *next, **previous; /* in the list of parked threads */
};

static aioshim_functions_t shim;
static aioshim_thread_t *thread; /* NULL: not attached */
static struct waiter *parked;    /* the threads in the shim */
static struct waiter *last;      /* that of the thread that has made a call last */
static struct waiter *leaving;   /* the one of them that has yielded and is not suspended yet */
static unsigned ready, joining;
static uint64_t started, ended; /* threads that have made calls */
static pth_t idle, main_thread;
static int main_ends; /* the main thread waits in pth_exit for the end of all others */
static pth_key_t key = PTH_KEY_INIT;
static int has_asked; /* Pth calls our function in order to look for events */
/* How many switches Pth may still make before it looks for events, and whether it has made one. */
static long switches, has_skipped;
static int in_pth;          /* in its scheduler: pth_self is still the thread that ran last */
static int ready_file = -1; /* the descriptor of the shim, under a number that select can watch */
static unsigned long changes, changes_seen; /* what the idle thread must see to */

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) {
        fprintf(stderr, "aioshim: Pth: %s: %s\n", name, dlerror());
        abort();
    }
    return function;
}

static void out_of_memory(void)
{
    fprintf(stderr, "aioshim: Pth: out of memory\n");
    abort();
}

/* ---- Parked threads ------------------------------------------------------------------------- */

/* Called when a thread ends. */
static void forget(void *waiter)
{
    if (waiter == last)
        last = NULL;
    shim.ended(thread, waiter);
    free(waiter);
    ended++;
}

static struct waiter *find_waiter(pth_t self)
{
    struct waiter *own = pth_key_getdata(key);
    if (!own) {
        own = calloc(1, sizeof *own);
        if (!own || !pth_key_setdata(key, own))
            out_of_memory();
        own->owner = self;
        started++;
    }
    return last = own;
}

/* Called at every converted call. */
static inline struct waiter *own_waiter(void)
{
    pth_t self = pth_self();
    return last && last->owner == self ? last : find_waiter(self);
}

/* Suspends the thread that has yielded in order to park. Each thread calls this when it runs again,
 * and the idle thread in each round. */
static void suspend_leaving(void)
{
    static int (*real)(pth_t);
    struct waiter *waiter = leaving;
    leaving = NULL;
    if (!waiter || waiter->owner == pth_self())
        return;
    if (!real)
        real = (int (*)(pth_t))next("pth_suspend");
    waiter->suspended = real(waiter->owner);
}

static void resume_parked(struct waiter *waiter)
{
    static int (*real)(pth_t);
    if (!waiter->suspended)
        return;
    if (!real)
        real = (int (*)(pth_t))next("pth_resume");
    waiter->suspended = !real(waiter->owner);
}

static struct waiter *find_parked(pth_t owner)
{
    struct waiter *waiter = parked;
    while (waiter && waiter->owner != owner)
        waiter = waiter->next;
    return waiter;
}

/* ---- The callbacks -------------------------------------------------------------------------- */

static void *running(void *data)
{
    (void)data;
    if (in_pth)
        return NULL;
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
    struct waiter *waiter = fiber;
    waiter->ready = 1;
    ready++;
    if (leaving == waiter && !waiter->held)
        leaving = NULL; /* It is in Pth's queue of ready threads already. */
    else if (!waiter->held)
        resume_parked(waiter);
}

static void park(void *data)
{
    (void)data;
    struct waiter *own = own_waiter();
    changes++;
    suspend_leaving();
    own->next = parked;
    own->previous = &parked;
    if (parked)
        parked->previous = &own->next;
    parked = own;
    while (!own->ready || own->held) {
        leaving = own;
        pth_yield(NULL);
        suspend_leaving();
    }
    *own->previous = own->next;
    if (own->next)
        own->next->previous = own->previous;
    own->ready = 0;
    ready--;
}

static void yield(void *data)
{
    (void)data;
    pth_yield(NULL);
    suspend_leaving();
}

static void cancelled(void *data)
{
    (void)data;
    struct waiter *own = own_waiter();
    int state = 0;
    pth_cancel_state(0, &state);
    if (!own->cancelled || !(state & PTH_CANCEL_ENABLE))
        return;
    own->cancelled = 0;
    shim.leaving(thread);
    pth_cancel_point(); /* The thread ends here. */
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
    .cancelled = cancelled,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL | AIOSHIM_HOST_NO_YIELDS,
    .yield = yield,
    .library = "GNU Pth " PTH_VERSION_STR,
    .counts = counts,
};

/* ---- The idle thread ------------------------------------------------------------------------ */

/* All threads wait for locks or for the end of other threads. */
static void check_deadlock(void)
{
    unsigned count = 0;
    if (!parked || !aioshim_is_deadlock(&shim, thread, 0))
        return;
    for (struct waiter *waiter = parked; waiter; waiter = waiter->next)
        count++;
    fprintf(stderr,
            "aioshim: Pth: deadlock: %u threads wait for locks, and nothing can wake any of them\n",
            count);
    abort();
}

/* All threads that are left wait in Pth: the main thread in pth_exit, and the idle thread. */
static int only_main_is_left(void)
{
    unsigned long others =
        PTH_CTRL_GETTHREADS_NEW | PTH_CTRL_GETTHREADS_READY | PTH_CTRL_GETTHREADS_SUSPENDED;
    return main_ends && pth_ctrl(others) == 0 && pth_ctrl(PTH_CTRL_GETTHREADS_WAITING) == 2;
}

static int must_wake(void *unused)
{
    (void)unused;
    return changes != changes_seen || only_main_is_left();
}

/* Returns 0 if select cannot watch the shim. */
static int find_ready_file(void)
{
    int file = shim.fd && shim.arm ? shim.fd(thread) : -1;
    if (ready_file < 0 && file >= 0)
        ready_file = fcntl(file, F_DUPFD_CLOEXEC, 0);
    if (ready_file >= FD_SETSIZE) {
        close(ready_file);
        ready_file = -1;
    }
    return ready_file >= 0;
}

/* Sleeps in Pth's select, until the shim or an event of another thread ends that. */
static void sleep_in_pth(void)
{
    int64_t limit = shim.arm(thread);
    if (limit == 0)
        return;
    changes_seen = changes;
    pth_event_t shim_is_ready = pth_event(PTH_EVENT_FD | PTH_UNTIL_FD_READABLE, ready_file);
    pth_event_t woken = pth_event(PTH_EVENT_FUNC, must_wake, NULL, pth_time(1000, 0));
    if (!shim_is_ready || !woken)
        out_of_memory();
    pth_event_concat(shim_is_ready, woken, NULL);
    if (limit > 0) {
        long microseconds = (long)(limit / 1000 + 1);
        pth_event_t time_is_up =
            pth_event(PTH_EVENT_TIME, pth_timeout(microseconds / 1000000, microseconds % 1000000));
        if (!time_is_up)
            out_of_memory();
        pth_event_concat(shim_is_ready, time_is_up, NULL);
    }
    pth_wait(shim_is_ready);
    if (pth_event_status(shim_is_ready) == PTH_STATUS_FAILED)
        ready_file = -1; /* The program has closed it. */
    pth_event_free(shim_is_ready, PTH_FREE_ALL);
    shim.poll(thread, 0);
}

static void *be_idle(void *unused)
{
    for (;;) {
        suspend_leaving();
        long others = pth_ctrl(PTH_CTRL_GETTHREADS_READY | PTH_CTRL_GETTHREADS_NEW);
        long waiting = pth_ctrl(PTH_CTRL_GETTHREADS_WAITING);
        if (others == 0 && has_skipped) {
            switches = 0;
            pth_yield(NULL);
            continue;
        }
        if (main_ends && !parked && others == 0 && waiting == 1 &&
            pth_ctrl(PTH_CTRL_GETTHREADS_SUSPENDED) == 0)
            break; /* The main thread waits for the end of this one. */
        if (others == 0 && waiting == joining)
            check_deadlock();
        if (others > 0)
            shim.poll(thread, 0);
        else if (waiting == joining)
            shim.poll(thread, -1);
        else if (find_ready_file())
            sleep_in_pth();
        else
            shim.poll(thread, SHORT_NS);
        pth_yield(NULL);
    }
    return unused;
}

static void begin_idle(void)
{
    pth_attr_t attributes = pth_attr_new();
    if (!attributes)
        out_of_memory();
    pth_attr_set(attributes, PTH_ATTR_NAME, "aioshim");
    pth_attr_set(attributes, PTH_ATTR_PRIO, PTH_PRIO_MIN);
    pth_attr_set(attributes, PTH_ATTR_JOINABLE, FALSE);
    pth_attr_set(attributes, PTH_ATTR_CANCEL_STATE, PTH_CANCEL_DISABLE);
    idle = pth_spawn(attributes, be_idle, NULL);
    pth_attr_destroy(attributes);
    if (!idle)
        out_of_memory();
}

/* ---- The functions that stand in front of others -------------------------------------------- */

/* Pth looks for events after each switch, with five system calls. Once a round is enough: threads
 * that wait in Pth wait one round longer. */
void __pth_sched_eventmanager(pth_time_t *now, int may_not_wait)
{
    static void (*real)(pth_time_t *, int);
    if (!real)
        real = (void (*)(pth_time_t *, int))next("__pth_sched_eventmanager");
    if (thread && may_not_wait && switches-- > 0) {
        has_skipped = 1;
        return;
    }
    has_asked = in_pth = 1;
    has_skipped = 0;
    real(now, may_not_wait);
    in_pth = 0;
    switches = pth_ctrl(PTH_CTRL_GETTHREADS_READY | PTH_CTRL_GETTHREADS_NEW);
}

int pth_suspend(pth_t other)
{
    int (*real)(pth_t) = (int (*)(pth_t))next("pth_suspend");
    struct waiter *waiter = find_parked(other);
    if (!waiter || waiter->held || other == pth_self())
        return real(other);
    waiter->held = 1;
    if (waiter->ready)
        waiter->suspended = real(other);
    return TRUE;
}

int pth_resume(pth_t other)
{
    int (*real)(pth_t) = (int (*)(pth_t))next("pth_resume");
    struct waiter *waiter = find_parked(other);
    if (!waiter)
        return real(other);
    if (!waiter->held) {
        errno = EPERM;
        return FALSE;
    }
    waiter->held = 0;
    if (waiter->ready)
        resume_parked(waiter);
    return TRUE;
}

/* Ends the call that the thread is parked in. Without that, Pth would free the stack of a thread
 * that may be cancelled at any time, and the kernel may still write to it. */
int pth_cancel(pth_t other)
{
    int (*real)(pth_t) = (int (*)(pth_t))next("pth_cancel");
    suspend_leaving();
    int cancelled = real(other);
    struct waiter *waiter = find_parked(other);
    if (!waiter)
        return cancelled;
    waiter->cancelled = 1;
    shim.cancel(thread, waiter);
    return TRUE;
}

int pth_join(pth_t other, void **result)
{
    int (*real)(pth_t, void **) = (int (*)(pth_t, void **))next("pth_join");
    joining++;
    int joined = real(other, result);
    joining--;
    return joined;
}

/* In the main thread, waits until all other threads have ended. The idle thread is one of them. */
void pth_exit(void *result)
{
    void (*real)(void *) = (void (*)(void *))next("pth_exit");
    if (thread && pth_self() == main_thread) {
        main_ends = 1;
        changes++;
    }
    real(result);
}

/* Frees the stacks of all threads, so the calls that they are parked in end first. */
int pth_kill(void)
{
    int (*real)(void) = (int (*)(void))next("pth_kill");
    if (!thread || pth_self() != main_thread)
        return real();
    in_pth = 1;
    for (struct waiter *waiter = parked; waiter; waiter = waiter->next)
        if (!waiter->ready)
            shim.cancel(thread, waiter);
    while (shim.in_flight(thread) > shim.blocked(thread))
        shim.poll(thread, -1);
    int killed = real();
    in_pth = 0;
    if (killed && shim.detach(thread) == 0)
        thread = NULL;
    parked = leaving = last = NULL;
    return killed;
}

/* The descriptor is that of the parent. */
static void after_fork_in_child(void)
{
    if (ready_file >= 0)
        close(ready_file);
    ready_file = -1;
}

int pth_init(void)
{
    static int handles_forks;
    int (*real)(void) = (int (*)(void))next("pth_init");
    int result = real();
    if (result != TRUE || thread || !aioshim_find(&shim))
        return result;
    pth_yield(NULL);
    if (!has_asked || !shim.ended || !pth_key_create(&key, forget)) {
        fprintf(stderr, "aioshim: Pth: cannot attach to this version\n");
        return result;
    }
    if (shim.attach(&table, NULL, &thread) != 0) {
        thread = NULL;
        return result;
    }
    if (!handles_forks)
        pthread_atfork(NULL, NULL, after_fork_in_child);
    handles_forks = 1;
    main_thread = pth_self();
    main_ends = 0;
    ready = joining = 0;
    begin_idle();
    return result;
}
