/* SPDX-License-Identifier: MIT */
/* aioshim_scheduler - a Fiber::Scheduler for Ruby whose fibers are those of libaioshim.so. The
 * class is completed in lib/aioshim.rb.
 *
 * The hooks of the scheduler are plain blocking calls on the fiber that calls them. The shim
 * converts them as it converts the calls of Ruby's own C code and of any extension. The root fiber
 * of the thread runs the loop; its own calls block. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <ruby.h>
#include <ruby/fiber/scheduler.h>
#include <ruby/io.h>
#include <ruby/thread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#define AIOSHIM_USE_VERSION 2 /* of the table in aioshim.h */
#include "aioshim_host.h"

int ruby_thread_has_gvl_p(void);

static aioshim_functions_t shim;
static aioshim_thread_t *thread; /* NULL: not attached */
static VALUE root;               /* the fiber of the loop */
static VALUE tasks;              /* the living fibers of `fiber`, as keys */
static VALUE waiters;            /* fiber => the address of its struct waiter */
static VALUE early;              /* fibers that were unblocked before they blocked, as keys */
static VALUE pending;            /* fiber => the exception to raise in it */
static VALUE interrupting;       /* the module that marks these exceptions */
static VALUE resumed;            /* the fiber that the loop resumes because it was unparked */
static int in_adapter;
static uint64_t started, ended;  /* tasks */
static unsigned blocked_forever; /* fibers in `block` without a time limit */

/* ---- The run queue: a ring of fibers -------------------------------------------------------- */

static VALUE *ring;
static unsigned first, ready, capacity;
static unsigned turn; /* how many of the ready ones may still run before the loop goes on */

static void mark_ring(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < ready; i++)
        rb_gc_mark(ring[(first + i) % capacity]);
}

/* Called with and without the global lock, so it must not use Ruby's allocator. */
static void push(VALUE fiber)
{
    if (ready == capacity) {
        unsigned more = capacity ? capacity * 2 : 64;
        VALUE *grown = malloc(more * sizeof *grown);
        if (!grown) {
            fprintf(stderr, "aioshim: Ruby: out of memory\n");
            abort();
        }
        for (unsigned i = 0; i < ready; i++)
            grown[i] = ring[(first + i) % capacity];
        free(ring);
        ring = grown;
        first = 0;
        capacity = more;
    }
    ring[(first + ready++) % capacity] = fiber;
}

static VALUE pop(void)
{
    VALUE fiber = ring[first];
    first = (first + 1) % capacity;
    ready--;
    return fiber;
}

/* ---- The callbacks -------------------------------------------------------------------------- */

/* A blocking fiber, such as that of an Enumerator or the root, waits in Ruby's own functions for
 * threads, and these cannot be left in the middle. */
static void *running(void *data)
{
    (void)data;
    if (in_adapter || NIL_P(rb_fiber_scheduler_current()))
        return NULL;
    return (void *)rb_fiber_current();
}

static unsigned runnable(void *data)
{
    (void)data;
    return ready;
}

static void unpark(void *data, void *fiber)
{
    (void)data;
    push((VALUE)fiber);
}

static VALUE transfer(VALUE fiber) { return rb_fiber_transfer(fiber, 0, NULL); }

/* Ends the call of a fiber in which an exception is to be raised. */
static void interrupt(VALUE fiber, VALUE exception)
{
    rb_hash_aset(pending, fiber, exception);
    shim.cancel(thread, (void *)fiber);
}

/* The handler mask of `run` lets Ruby raise the exception at the end of the blocking call that the
 * current fiber is in, rather than here. */
static VALUE raise_later(VALUE exception)
{
    rb_extend_object(exception, interrupting);
    return rb_funcall(rb_thread_current(), rb_intern("raise"), 1, exception);
}

/* Takes the next fiber from the run queue; the root if the loop continues. */
static VALUE next_in_turn(void)
{
    if (turn == 0 || ready == 0)
        return root;
    turn--;
    return resumed = pop();
}

/* Transfers to the next fiber in turn, without a detour through the root, or to the root. Returns
 * nonzero if an exception was raised in this fiber. */
static int transfer_away(VALUE fiber)
{
    VALUE next = next_in_turn();
    int failed;
    rb_protect(transfer, next, &failed);
    if (failed && next != root && next != fiber && resumed == next) {
        /* Ruby refuses this transfer. It is the loop that reports the error. */
        rb_set_errinfo(Qnil);
        push(next);
        turn = 0;
        rb_protect(transfer, root, &failed);
    }
    return failed;
}

static void *park_with_lock(void *unused)
{
    (void)unused;
    VALUE fiber = rb_fiber_current();
    int failed;
    for (;;) {
        in_adapter = 0;
        failed = transfer_away(fiber);
        in_adapter = 1;
        if (failed) {
            /* Fiber#raise: the call ends first. */
            VALUE exception = rb_errinfo();
            rb_set_errinfo(Qnil);
            interrupt(fiber, exception);
        }
        if (resumed == fiber)
            break;
    }
    resumed = Qnil;
    VALUE exception = RHASH_EMPTY_P(pending) ? Qnil : rb_hash_delete(pending, fiber);
    if (!NIL_P(exception)) {
        rb_protect(raise_later, exception, &failed);
        if (failed)
            rb_set_errinfo(Qnil);
    }
    return NULL;
}

static void park(void *data)
{
    (void)data;
    in_adapter = 1;
    /* Ruby releases its lock around most calls that block. */
    if (ruby_thread_has_gvl_p())
        park_with_lock(NULL);
    else
        rb_thread_call_with_gvl(park_with_lock, NULL);
    in_adapter = 0;
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

static aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .flags = AIOSHIM_HOST_SLEEPS_IN_POLL | AIOSHIM_HOST_NO_YIELDS,
    .library = "Ruby fibers",
    .counts = counts,
};

/* ---- block and unblock: what Mutex, Queue, ConditionVariable and Thread#join call ------------ */

struct waiter {
    VALUE fiber;
    int forever;
    struct timespec end;
    _Atomic int woken;
    struct waiter *next; /* in the list of those that other threads have woken */
};

static _Atomic(struct waiter *) woken_elsewhere;

static struct timespec after(double seconds)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    double whole = (double)(time_t)seconds;
    long nanoseconds = time.tv_nsec + (long)((seconds - whole) * 1e9);
    time.tv_sec += (time_t)whole + nanoseconds / 1000000000;
    time.tv_nsec = nanoseconds % 1000000000;
    return time;
}

/* The time until `end`; zero if that has passed. */
static struct timespec until(const struct timespec *end)
{
    struct timespec now, zero = { 0, 0 };
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct timespec left = { end->tv_sec - now.tv_sec, end->tv_nsec - now.tv_nsec };
    if (left.tv_nsec < 0) {
        left.tv_sec--;
        left.tv_nsec += 1000000000;
    }
    return left.tv_sec < 0 ? zero : left;
}

static VALUE wait_until_woken(VALUE address)
{
    struct waiter *waiter = (struct waiter *)address;
    while (!waiter->woken) {
        struct timespec left = { 0, 0 };
        if (!waiter->forever) {
            left = until(&waiter->end);
            if (left.tv_sec == 0 && left.tv_nsec == 0)
                return Qfalse;
        }
        ppoll(NULL, 0, waiter->forever ? NULL : &left, NULL);
        rb_thread_check_ints();
    }
    return Qtrue;
}

static void expire(struct waiter *waiter) { shim.expire(thread, (void *)waiter->fiber); }

/* On the attached thread. */
static void expire_those_woken_elsewhere(void)
{
    struct waiter *waiter = atomic_exchange(&woken_elsewhere, NULL);
    while (waiter) {
        struct waiter *next = waiter->next;
        expire(waiter);
        waiter = next;
    }
}

static VALUE end_wait(VALUE address)
{
    struct waiter *waiter = (struct waiter *)address;
    expire_those_woken_elsewhere(); /* This one may be in the list. */
    rb_hash_delete(waiters, waiter->fiber);
    blocked_forever -= waiter->forever;
    return Qnil;
}

/* block(blocker, timeout = nil): true if unblocked, false if the time is up. */
static VALUE scheduler_block(int argc, VALUE *argv, VALUE self)
{
    (void)self;
    struct waiter waiter = { .fiber = rb_fiber_current() };
    waiter.forever = argc < 2 || NIL_P(argv[1]);
    if (!waiter.forever)
        waiter.end = after(NUM2DBL(argv[1]));
    if (!NIL_P(rb_hash_delete(early, waiter.fiber)))
        return Qtrue;
    rb_hash_aset(waiters, waiter.fiber, ULL2NUM((uintptr_t)&waiter));
    blocked_forever += waiter.forever;
    return rb_ensure(wait_until_woken, (VALUE)&waiter, end_wait, (VALUE)&waiter);
}

/* unblock(blocker, fiber): may be called from any thread. All of them hold the global lock. */
static VALUE scheduler_unblock(VALUE self, VALUE blocker, VALUE fiber)
{
    (void)self;
    (void)blocker;
    VALUE address = rb_hash_aref(waiters, fiber);
    if (NIL_P(address)) {
        if (!NIL_P(rb_hash_aref(tasks, fiber)))
            rb_hash_aset(early, fiber, Qtrue);
        return Qnil;
    }
    struct waiter *waiter = (struct waiter *)(uintptr_t)NUM2ULL(address);
    if (atomic_exchange(&waiter->woken, 1))
        return Qnil;
    if (rb_fiber_current() == root || !NIL_P(rb_hash_aref(tasks, rb_fiber_current()))) {
        expire(waiter);
        return Qnil;
    }
    /* The loop may be in aioshim_poll now, without the global lock. */
    waiter->next = woken_elsewhere;
    while (!atomic_compare_exchange_weak(&woken_elsewhere, &waiter->next, waiter)) {}
    shim.wake(thread);
    return Qnil;
}

/* ---- The other hooks ------------------------------------------------------------------------ */

/* kernel_sleep(duration = nil) */
static VALUE scheduler_sleep(int argc, VALUE *argv, VALUE self)
{
    if (argc == 0 || NIL_P(argv[0]))
        return scheduler_block(0, NULL, self);
    struct timespec end = after(NUM2DBL(argv[0]));
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        rb_thread_check_ints();
    rb_thread_check_ints();
    return Qtrue;
}

/* io_wait(io, events, timeout): the events that are ready, or false if the time is up. */
static VALUE scheduler_io_wait(VALUE self, VALUE io, VALUE events, VALUE timeout)
{
    (void)self;
    int wanted = NUM2INT(events), found = 0;
    struct pollfd file = { .fd = NUM2INT(rb_funcall(io, rb_intern("fileno"), 0)) };
    file.events = (short)((wanted & RUBY_IO_READABLE ? POLLIN : 0) |
                          (wanted & RUBY_IO_PRIORITY ? POLLPRI : 0) |
                          (wanted & RUBY_IO_WRITABLE ? POLLOUT : 0));
    struct timespec end = after(NIL_P(timeout) ? 0 : NUM2DBL(timeout)), left;
    int count;
    do {
        left = until(&end);
        count = ppoll(&file, 1, NIL_P(timeout) ? NULL : &left, NULL);
        int error = errno;
        rb_thread_check_ints();
        errno = error;
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        rb_sys_fail("poll");
    if (count == 0)
        return Qfalse;
    if (file.revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
        found |= RUBY_IO_READABLE;
    if (file.revents & POLLPRI)
        found |= RUBY_IO_PRIORITY;
    if (file.revents & (POLLOUT | POLLHUP | POLLERR | POLLNVAL))
        found |= RUBY_IO_WRITABLE;
    return INT2NUM(found & wanted);
}

/* process_wait(pid, flags): a Process::Status. */
static VALUE scheduler_process_wait(VALUE self, VALUE pid, VALUE flags)
{
    (void)self;
    int status = 0;
    pid_t child;
    while ((child = waitpid(NUM2PIDT(pid), &status, NUM2INT(flags))) < 0 && errno == EINTR)
        rb_thread_check_ints();
    rb_last_status_set(status, child);
    return rb_last_status_get();
}

/* interrupt(fiber, exception): raises the exception in a fiber, at the end of the call that it
 * waits in, which is ended if it has had no effect yet. */
static VALUE scheduler_interrupt(VALUE self, VALUE fiber, VALUE exception)
{
    interrupt(fiber, exception);
    return self;
}

/* ---- Fibers and the loop -------------------------------------------------------------------- */

/* begin_task(fiber): runs a new fiber until it waits. */
static VALUE begin_task(VALUE self, VALUE fiber)
{
    (void)self;
    rb_hash_aset(tasks, fiber, Qtrue);
    started++;
    VALUE here = rb_fiber_current();
    if (here != root)
        push(here);
    transfer(fiber);
    if (resumed == here)
        resumed = Qnil;
    return fiber;
}

static VALUE end_task(VALUE self)
{
    VALUE here = rb_fiber_current();
    rb_hash_delete(tasks, here);
    rb_hash_delete(early, here);
    rb_hash_delete(pending, here);
    ended++;
    return self;
}

static void *poll_shim(void *unused)
{
    shim.poll(thread, -1);
    return unused;
}

/* It may be called in a signal handler. Otherwise Ruby would start a thread for it in each poll. */
static void end_poll(void *unused)
{
    (void)unused;
    shim.wake(thread);
}

/* Only for waits that Ruby knows of: a thread of a C library may release a lock of that library. */
static void check_deadlock(void)
{
    if (blocked_forever == 0 || shim.in_flight(thread) != blocked_forever || woken_elsewhere)
        return;
    VALUE threads = rb_funcall(rb_cThread, rb_intern("list"), 0);
    if (RARRAY_LEN(threads) == 1)
        rb_raise(rb_eRuntimeError,
                 "aioshim: Ruby: deadlock: %u fibers wait for each other, and nothing can wake any "
                 "of them",
                 blocked_forever);
}

/* run_round: resumes the fibers that can run, and waits if there are none. False at the end. */
static VALUE run_round(VALUE self)
{
    (void)self;
    VALUE next;
    turn = ready;
    while ((next = next_in_turn()) != root)
        transfer(next);
    turn = 0;
    if (RHASH_SIZE(tasks) == 0)
        return Qfalse;
    expire_those_woken_elsewhere();
    if (ready) {
        shim.poll(thread, 0);
    } else {
        check_deadlock();
        rb_nogvl(poll_shim, NULL, end_poll, NULL, RB_NOGVL_UBF_ASYNC_SAFE);
    }
    rb_thread_check_ints();
    return Qtrue;
}

/* The child of a fork has none of the parent's fibers, and its calls block. */
static void after_fork_in_child(void)
{
    ready = turn = 0;
    blocked_forever = 0;
    tasks = rb_hash_new();
}

/* attach: attaches the calling thread. False if the shim is not preloaded. */
static VALUE attach(VALUE self)
{
    (void)self;
    if (thread) {
        if (rb_fiber_current() != root)
            rb_raise(rb_eRuntimeError, "one thread can have an AIOShim::Scheduler, on its root "
                                       "fiber");
        return Qtrue;
    }
    if (!aioshim_find(&shim))
        return Qfalse;
    if (!shim.expire)
        rb_raise(rb_eRuntimeError, "this version of libaioshim.so is not supported");
    /* Without libaioshim_ruby.so Ruby's global lock cannot be told from other locks. */
    if (!dlsym(RTLD_DEFAULT, "aioshim_runtime_locks"))
        table.flags |= AIOSHIM_HOST_PLAIN_LOCKS;
    root = rb_fiber_current();
    if (shim.attach(&table, NULL, &thread) != 0) {
        thread = NULL;
        return Qfalse;
    }
    pthread_atfork(NULL, NULL, after_fork_in_child);
    return Qtrue;
}

static VALUE new_identity_hash(void)
{
    return rb_funcall(rb_hash_new(), rb_intern("compare_by_identity"), 0);
}

void Init_aioshim_scheduler(void)
{
    static const rb_data_type_t ring_type = { .wrap_struct_name = "aioshim ring",
                                              .function = { .dmark = mark_ring } };
    VALUE module = rb_define_module("AIOShim");
    VALUE scheduler = rb_define_class_under(module, "Scheduler", rb_cObject);
    interrupting = rb_define_module_under(module, "Interrupting");
    root = resumed = Qnil;
    rb_gc_register_address(&root);
    rb_gc_register_address(&resumed);
    VALUE *hashes[] = { &tasks, &waiters, &early, &pending };
    for (int i = 0; i < 4; i++) {
        *hashes[i] = new_identity_hash();
        rb_gc_register_address(hashes[i]);
    }
    rb_gc_register_mark_object(rb_data_typed_object_wrap(rb_cObject, &ring, &ring_type));

    rb_define_method(scheduler, "kernel_sleep", scheduler_sleep, -1);
    rb_define_method(scheduler, "block", scheduler_block, -1);
    rb_define_method(scheduler, "unblock", scheduler_unblock, 2);
    rb_define_method(scheduler, "io_wait", scheduler_io_wait, 3);
    rb_define_method(scheduler, "process_wait", scheduler_process_wait, 2);
    rb_define_method(scheduler, "interrupt", scheduler_interrupt, 2);
    rb_define_private_method(scheduler, "attach", attach, 0);
    rb_define_private_method(scheduler, "begin_task", begin_task, 1);
    rb_define_private_method(scheduler, "end_task", end_task, 0);
    rb_define_private_method(scheduler, "run_round", run_round, 0);
}
