/* SPDX-License-Identifier: MIT */
/* Coro::AIOShim - attaches the coroutines of Perl's Coro to libaioshim.so. lib/Coro/AIOShim.pm
 * loads it.
 *
 * Coro keeps the C stack of a coroutine that is left in the middle of a C function, so parking is a
 * plain switch of Coro. One coroutine, the pump, calls aioshim_poll once a round as long as others
 * are parked in the shim, and sleeps there if nothing is ready. An event loop, such as that of
 * AnyEvent, is a coroutine that Coro runs if nothing is ready. Its wait parks like any other. */
#define PERL_NO_GET_CONTEXT
#include <EXTERN.h>
#include <perl.h>

#include <XSUB.h>

#include <CoroAPI.h>
#include <pthread.h>

#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "aioshim_host.h"

/* What a coroutine parks on. It belongs to a scalar in the hash that is the coroutine. */
struct waiter {
    SV *coroutine;
    SV *reference; /* to it, which does not keep it alive */
    int ready, parked;
};

static aioshim_functions_t shim;
static aioshim_thread_t *thread; /* NULL: not attached, or the child of a fork */
static SV *pump, *pump_reference;
static SV *first_idle;          /* Coro's own idle handler, which reports a deadlock */
static int pump_sleeps;         /* until a coroutine parks */
static yy_parser *parser;       /* that of the program, once it runs */
static unsigned parked;         /* coroutines in the shim */
static unsigned unparked;       /* those of them that have not run since */
static int in_adapter;          /* calls of Perl's own functions, such as malloc, stay with libc */
static struct waiter *own;      /* of the coroutine that ran last */
static uint64_t started, ended; /* coroutines that have made calls */

/* ---- The coroutines ------------------------------------------------------------------------- */

/* The coroutine is gone, and its waiter with it. */
static int forget(pTHX_ SV *scalar, MAGIC *magic)
{
    (void)scalar;
    struct waiter *waiter = (struct waiter *)magic->mg_ptr;
    if (thread && waiter->parked && !PL_dirty) {
        fprintf(stderr, "aioshim: Coro: a coroutine was destroyed in the middle of a call\n");
        abort();
    }
    if (thread && !waiter->parked)
        shim.ended(thread, waiter);
    if (own == waiter)
        own = NULL;
    SvROK_off(waiter->reference);
    SvRV_set(waiter->reference, NULL);
    SvREFCNT_dec(waiter->reference);
    Safefree(waiter);
    ended++;
    return 0;
}

static const MGVTBL lifetime = { .svt_free = forget };

static struct waiter *find_waiter(pTHX_ SV *coroutine)
{
    in_adapter = 1;
    SV *scalar = *hv_fetchs((HV *)coroutine, "_aioshim", 1);
    MAGIC *magic = NULL;
    if (SvTYPE(scalar) >= SVt_PVMG)
        magic = mg_findext(scalar, PERL_MAGIC_ext, &lifetime);
    if (!magic) {
        struct waiter *made;
        Newxz(made, 1, struct waiter);
        made->coroutine = coroutine;
        started++;
        made->reference = newRV_noinc(coroutine);
        magic = sv_magicext(scalar, NULL, PERL_MAGIC_ext, &lifetime, (char *)made, 0);
    }
    in_adapter = 0;
    return own = (struct waiter *)magic->mg_ptr;
}

/* Called at every converted call. */
static inline struct waiter *waiter_of(pTHX_ SV *coroutine)
{
    return own && own->coroutine == coroutine ? own : find_waiter(aTHX_ coroutine);
}

/* ---- The callbacks -------------------------------------------------------------------------- */

/* Perl's parser is one for all coroutines, so a coroutine that compiles a file cannot be left. */
static void *running(void *data)
{
    (void)data;
    if (in_adapter)
        return NULL;
    dTHX;
    if (IN_PERL_COMPILETIME || PL_parser != parser || CORO_CURRENT == pump)
        return NULL;
    return waiter_of(aTHX_ CORO_CURRENT);
}

static unsigned runnable(void *data)
{
    (void)data;
    return unparked;
}

static void unpark(void *data, void *fiber)
{
    (void)data;
    dTHX;
    struct waiter *waiter = fiber;
    waiter->ready = 1;
    unparked++;
    in_adapter = 1;
    CORO_READY(waiter->reference);
    in_adapter = 0;
}

static void park(void *data)
{
    (void)data;
    dTHX;
    struct waiter *waiter = own;
    parked++;
    waiter->parked = 1;
    if (pump_sleeps) {
        pump_sleeps = 0;
        CORO_READY(pump_reference);
    }
    while (!waiter->ready) /* The program may have called `ready`. */
        CORO_SCHEDULE;
    waiter->parked = waiter->ready = 0;
    parked--;
    unparked--;
    own = waiter;
}

static void yield(void *data)
{
    (void)data;
    dTHX;
    struct waiter *waiter = own;
    CORO_CEDE;
    own = waiter;
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
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL | AIOSHIM_HOST_NO_YIELDS,
    .yield = yield,
    .library = "Coro",
    .counts = counts,
};

/* ---- The module ----------------------------------------------------------------------------- */

static void check_deadlock(void)
{
    if (!aioshim_is_deadlock(&shim, thread, 0))
        return;
    fprintf(stderr,
            "aioshim: Coro: deadlock: %u coroutines wait for locks, and nothing can wake any of "
            "them\n",
            parked);
    abort();
}

/* Nothing is ready. If an event loop has not begun to wait in the shim yet, lets it do so: it is
 * the idle handler. Returns whether others have run. */
static int run_idle(pTHX)
{
    SV *idle = SvRV(get_sv("Coro::idle", 0));
    if (idle == first_idle || SvTYPE(idle) != SVt_PVHV || waiter_of(aTHX_ idle)->parked)
        return 0;
    pump_sleeps = 1;
    CORO_SCHEDULE;
    pump_sleeps = 0;
    return 1;
}

/* run_pump(): the body of the pump. It ends in the child of a fork only. */
XS_INTERNAL(run_pump)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    pump = CORO_CURRENT;
    pump_reference = newRV_inc(pump);
    while (thread) {
        if (parked == 0) {
            pump_sleeps = 1;
            CORO_SCHEDULE;
            pump_sleeps = 0;
            continue;
        }
        if (CORO_NREADY == 0) {
            if (run_idle(aTHX))
                continue;
            check_deadlock();
        }
        shim.poll(thread, CORO_NREADY > 0 ? 0 : -1);
        CORO_CEDE;
    }
    XSRETURN_EMPTY;
}

/* The child of a fork runs one coroutine, and its calls block. */
static void after_fork_in_child(void)
{
    thread = NULL;
    in_adapter = 1;
}

/* attach(): whether the shim is preloaded. */
XS_INTERNAL(attach)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    if (!thread && aioshim_find(&shim) && shim.attach(&table, NULL, &thread) == 0) {
        first_idle = SvRV(get_sv("Coro::idle", 0));
        pthread_atfork(NULL, NULL, after_fork_in_child);
    }
    ST(0) = boolSV(thread);
    XSRETURN(1);
}

/* begin(): called when the program has been compiled. */
XS_INTERNAL(begin)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    parser = PL_parser;
    XSRETURN_EMPTY;
}

/* end(): calls that are made while Perl ends block. */
XS_INTERNAL(end)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    in_adapter = 1;
    if (thread && shim.detach(thread) == 0)
        thread = NULL;
    XSRETURN_EMPTY;
}

XS_EXTERNAL(boot_Coro__AIOShim)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    I_CORO_API("Coro::AIOShim");
    newXS("Coro::AIOShim::run_pump", run_pump, __FILE__);
    newXS("Coro::AIOShim::attach", attach, __FILE__);
    newXS("Coro::AIOShim::begin", begin, __FILE__);
    newXS("Coro::AIOShim::end", end, __FILE__);
    XSRETURN_YES;
}
