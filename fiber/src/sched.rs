//! Scheduling: whose turn is next, and the turn passed on by one direct switch from fiber to fiber.
//!
//! The worker's own thread stack carries the scheduler's context. Fibers switch to it only when
//! nothing can run or when a round is over: the fibers that were ready when it began, at most
//! [`ROUND`]. Between rounds the worker looks at its inbox, its timers and the shim; that work may
//! go deep and so never happens on a fiber's stack, of which a parked fiber should touch one page.
//! Ready and fresh fibers take turns.
//!
//! Two exceptions make a tree of fibers that make and join fibers run depth first, with as many
//! stacks as it is deep: a fiber that joins a fresh one while no other is ready gives it the turn,
//! as a call does, and one that ends gives the turn to a ready one, as a return does. The pick that
//! follows the end of a round knows no exceptions, so all get on.
//!
//! Invariants: `current` is the fiber on whose stack the thread runs, null on the scheduler's own.
//! A fiber that is not current and not parked is in exactly one list. A started fiber never changes
//! its worker. errno survives a switch.

use crate::cancel;
use crate::errno::Errno;
use crate::fiber::{Fiber, Life, Waits};
use crate::idle;
use crate::key;
use crate::park;
use crate::switch;
use crate::timer::{self, Instant, NEVER};
use crate::tls;
use crate::worker::Worker;
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::Ordering;

/// The longest round, in switches.
const ROUND: usize = 256;
/// The shortest one, when a round's end is of use to other threads' posts only.
const SHORT_ROUND: u32 = 16;

/// Lets the other runnable fibers of this worker go first. On a fiber of `worker`.
#[inline(always)]
pub(crate) fn yield_now(worker: &Worker) {
    if worker.runtimes.are_in_use() {
        return worker.runtimes.kept_over(|| yield_now(worker));
    }
    let me = worker.current.get();
    let next = worker.ready.head();
    if next.is_null() || worker.fresh.any() {
        return yield_slowly(worker);
    }
    // Most rounds end with nothing to do, and then the switch is still the one below: the same jump
    // each time, which the CPU predicts; another one now and then would cost more than all that a
    // round's end looks at.
    if worker.turns.left() == 0 && round_is_over(worker) {
        return yield_to_scheduler(worker);
    }
    worker.turns.take();
    // SAFETY: the list is not empty and the running fiber is in none. The errno address is this
    // thread's, now and after the switch. Fibers in the ready list have been switched away from on
    // this thread.
    unsafe {
        let next = worker.ready.rotate(me);
        worker.current.set(next);
        ask_ahead(worker);
        let errno = *worker.errno.get();
        switch::switch((*me).sp.as_ptr(), (*next).sp.get());
        *worker.errno.get() = errno;
    }
}

/// Asks the caches for the stack of the second fiber in turn, and for the record behind: with a
/// hundred fibers they have left the first-level cache. Asked for in time, a switch among a
/// thousand costs 7.2 ns instead of 12.9.
///
/// # Safety
/// The ready list is not empty.
#[inline(always)]
unsafe fn ask_ahead(worker: &Worker) {
    // SAFETY: the list has a first one; fibers in it have been switched away from and their records
    // are never unmapped.
    unsafe {
        let then = (*worker.ready.head()).next.get();
        if !then.is_null() {
            switch::prefetch((*then).sp.get());
            switch::prefetch((*then).next.get().cast());
        }
    }
}

#[cold]
#[inline(never)]
fn yield_slowly(worker: &Worker) {
    let me = worker.current.get();
    if worker.turns.left() == 0 && round_is_over(worker) {
        return yield_to_scheduler(worker);
    }
    let next = pick(worker);
    if next.is_null() {
        // Alone; but a round ends all the same, so that a fiber that yields until something happens
        // sees it happen.
        return worker.turns.take();
    }
    // SAFETY: the running fiber is in no list.
    unsafe { worker.ready.push(me) };
    pass_to(worker, next);
}

#[inline(never)]
fn yield_to_scheduler(worker: &Worker) {
    // SAFETY: the running fiber is in no list.
    unsafe { worker.ready.push(worker.current.get()) };
    pass_to(worker, null_mut());
}

/// Switches away from the running fiber until somebody has made it ready. On a fiber of `worker`.
#[inline]
pub(crate) fn park(worker: &Worker) {
    let mut next = null_mut();
    if worker.turns.left() > 0 || !round_is_over(worker) {
        next = pick(worker);
        if next == worker.current.get() {
            // Made ready before it parked, and first in turn. A turn all the same: one that only
            // ever yields to itself must come to the end of its round, too, or timers and other
            // threads would wait for ever.
            worker.turns.take();
            return;
        }
    }
    pass_to(worker, next);
}

/// Parks the running fiber in the shim. On a fiber of `worker`.
#[inline]
pub(crate) fn park_in_shim(worker: &Worker) {
    // The round began with nothing in flight, perhaps, and was made longer for that; now there is
    // something to submit once each of the others had its turn.
    if worker.ready.len() < SHORT_ROUND as usize {
        worker
            .turns
            .set_left(worker.turns.left().min(round(worker)));
    }
    park(worker);
}

/// Parks the running fiber until `fiber`, which knows that it waits, has ended. On a fiber of
/// `worker`.
#[inline]
pub(crate) fn park_until_ended(worker: &Worker, fiber: &'static Fiber) {
    if worker.turns.left() == 0 || !worker.ready.head().is_null() || !worker.runtime().is_single() {
        return park(worker);
    }
    // Only one worker, but there may be other runtimes.
    let is_fresh = fiber.worker.load(Ordering::Relaxed).is_null()
        && core::ptr::eq(fiber.runtime.load(Ordering::Relaxed), worker.runtime);
    if !is_fresh {
        return park(worker);
    }
    let Some(stack) = worker.stacks.borrow_mut().take(fiber.class.get()) else {
        return park(worker);
    };
    let fiber = (&raw const *fiber).cast_mut();
    // SAFETY: live, of this runtime and not started, it is in the queue of the runtime's only
    // worker; taken out, it is ours, and records are never unmapped.
    unsafe {
        worker.fresh.take_out(fiber);
        (*fiber).stack.set(stack);
    }
    pass_to(worker, fiber);
}

/// Parks the running fiber until `until` has come. On a fiber of `worker`. `ECANCELED` when it is
/// cancelled.
pub(crate) fn sleep_until(worker: &Worker, until: Instant) -> Result<(), Errno> {
    let me = worker.running();
    cancel::check(me)?;
    me.set_waits(Waits::Sleep, null());
    me.waiter.set(null());
    worker.timers.borrow_mut().set(me, until);
    park(worker);
    cancel::check(me)
}

/// Switches from the running fiber to `next`, or to the scheduler when null.
#[inline(always)]
fn pass_to(worker: &Worker, next: *mut Fiber) {
    if worker.runtimes.are_in_use() {
        return worker.runtimes.kept_over(|| switch_to(worker, next));
    }
    switch_to(worker, next);
}

/// [`pass_to`] for a fiber of which the C and C++ runtimes keep nothing.
#[inline(always)]
fn switch_to(worker: &Worker, next: *mut Fiber) {
    let me = worker.current.get();
    // SAFETY: errno as in `yield_now`. `next` comes from `pick`: it has been switched away from on
    // this thread, or has a stack and never ran. The scheduler's context was saved when it switched
    // to a fiber.
    unsafe {
        let errno = *worker.errno.get();
        let save = (*me).sp.as_ptr();
        worker.current.set(next);
        if next.is_null() {
            switch::switch(save, worker.scheduler.get());
        } else {
            worker.turns.take();
            go(worker, save, next);
        }
        *worker.errno.get() = errno;
    }
}

/// Runs `next`, leaving the running context in `*save`.
///
/// # Safety
/// `next` comes from [`pick`] on this worker.
#[inline(always)]
unsafe fn go(worker: &Worker, save: *mut *mut u8, next: *mut Fiber) {
    // SAFETY: the caller's promise.
    unsafe {
        let to = (*next).sp.get();
        if to.is_null() {
            switch::start(save, settle(worker, next), next, &worker.float);
        } else {
            switch::switch(save, to);
        }
    }
}

/// A fresh fiber with a stack becomes one of this worker's; returns the top of its stack.
///
/// # Safety
/// `fiber` is a fresh one from [`pick`].
#[inline(always)]
unsafe fn settle(worker: &Worker, fiber: *mut Fiber) -> *mut u8 {
    // SAFETY: a fresh fiber belongs to whoever took it from the queue.
    let fiber = unsafe { &*fiber };
    fiber
        .worker
        .store((&raw const *worker).cast_mut(), Ordering::Relaxed);
    let share = &worker.remote.share;
    share.set_started(share.started() + 1);
    crate::stack::top(fiber.stack.get(), fiber.class.get())
}

/// Takes the next fiber to run; null when there is none. A fresh one has got its stack.
#[inline(always)]
fn pick(worker: &Worker) -> *mut Fiber {
    if worker.fresh.any() {
        pick_mixed(worker)
    } else {
        worker.ready.pop()
    }
}

fn pick_mixed(worker: &Worker) -> *mut Fiber {
    let turn = worker.fresh_turn.get();
    worker.fresh_turn.set(!turn);
    if turn || worker.ready.head().is_null() {
        let fresh = pick_fresh(worker);
        if !fresh.is_null() {
            return fresh;
        }
    }
    worker.ready.pop()
}

fn pick_fresh(worker: &Worker) -> *mut Fiber {
    let fiber = worker.fresh.pop();
    // SAFETY: records are never unmapped; a fresh fiber belongs to whoever took it.
    if let Some(fresh) = unsafe { fiber.as_ref() } {
        let Some(stack) = worker.stacks.borrow_mut().take(fresh.class.get()) else {
            worker.starved.set(true);
            // SAFETY: just taken from the queue.
            unsafe { worker.fresh.push(fiber, true) };
            return null_mut();
        };
        fresh.stack.set(stack);
    }
    fiber
}

/// Makes a parked fiber ready on its worker, from any thread.
///
/// # Safety
/// The caller is the only waker of a fiber that is parked or just about to park.
#[inline]
pub(crate) unsafe fn make_ready(fiber: *const Fiber) {
    // SAFETY: records are never unmapped; a started fiber has a worker, which lives as long as its
    // fibers do.
    let (record, home) = unsafe {
        (
            &*fiber,
            (*fiber).worker.load(Ordering::Relaxed).cast_const(),
        )
    };
    record.waits_no_more();
    let fiber = fiber.cast_mut();
    match tls::worker() {
        // SAFETY: parked and ours to wake, so in no list.
        Some(worker) if core::ptr::eq(worker, home) => unsafe { worker.ready.push(fiber) },
        _ => {
            // SAFETY: the worker is there while its fiber is parked, and then until `wakers` is
            // zero again; other threads may use the remote part. The fiber is ours to send.
            unsafe {
                let remote = &(*home).remote;
                remote.wakers.fetch_add(1, Ordering::Relaxed);
                if remote.inbox.send(fiber) {
                    remote.wake();
                }
                remote.wakers.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

/// Makes a parked fiber of `worker` ready, on its thread.
///
/// # Safety
/// As [`make_ready`]; the caller runs on `worker`'s thread.
#[inline]
pub(crate) unsafe fn make_ready_here(worker: &Worker, fiber: *mut Fiber) {
    // SAFETY: records are never unmapped; parked and ours to wake, so in no list.
    unsafe {
        (*fiber).waits_no_more();
        worker.ready.push(fiber);
    }
}

/// Whether the scheduler has something to do between rounds; if not, the next round begins.
#[inline(never)]
fn round_is_over(worker: &Worker) -> bool {
    let first = worker.timers.borrow().first();
    // While nothing is parked in the shim there is nothing to submit, nor to reap.
    let over = worker.host.get().is_some_and(|host| host.in_flight() > 0)
        || !worker.remote.inbox.is_empty()
        || worker.remote.cancels.any()
        || worker.stacks.borrow().has_excess()
        || (first != NEVER && first <= timer::now());
    if !over {
        // With nothing but the inbox to look at, a handful of fibers need not look each time round.
        // One that parks in the shim meanwhile ends that: see `park_in_shim`.
        let least = if first == NEVER { SHORT_ROUND } else { 1 };
        worker.turns.set_left(round(worker).max(least));
    }
    over
}

/// How many switches the round that begins now lasts.
fn round(worker: &Worker) -> u32 {
    (worker.ready.len() + worker.fresh.len()).clamp(1, ROUND) as u32
}

/// Runs fibers until the runtime's last one has ended: the scheduler's own context.
pub(crate) fn run(worker: &Worker) {
    let runtime = worker.runtime();
    loop {
        worker.remote.inbox.take(|fiber| {
            // SAFETY: sent by its only waker, and just taken out.
            unsafe { worker.ready.push(fiber) }
        });
        fire_timers(worker);
        if worker.remote.cancels.any() {
            cancel::deliver(worker);
        }
        if worker.stacks.borrow().has_excess() {
            worker.stacks.borrow_mut().trim_excess();
        }
        if let Some(host) = worker.host.get()
            && (!worker.ready.head().is_null() || worker.fresh.any())
        {
            host.poll(0);
        }
        worker.turns.set_left(round(worker));
        let next = pick(worker);
        if !next.is_null() {
            worker.current.set(next);
            worker.turns.take();
            // SAFETY: from `pick`. Whoever comes back here has set `current` to null.
            unsafe { go(worker, worker.scheduler.as_ptr(), next) };
        } else if runtime.done.load(Ordering::Acquire) {
            return;
        } else if !runtime.steal(worker) {
            idle::sleep(worker);
        }
    }
}

fn fire_timers(worker: &Worker) {
    if worker.timers.borrow().first() == NEVER {
        return;
    }
    let now = timer::now();
    loop {
        let due = worker.timers.borrow_mut().pop(now);
        match due {
            // SAFETY: records are never unmapped; a fiber with a timer is parked here, or ready and
            // about to cancel it.
            Some(fiber) => park::time_out(unsafe { &*fiber }),
            None => return,
        }
    }
}

/// Where every fiber begins.
pub(crate) extern "C" fn fiber_main(fiber: *mut Fiber) -> ! {
    // SAFETY: records are never unmapped.
    let fiber = unsafe { &*fiber };
    let result = (fiber.entry.get())(fiber.arg.get());
    // SAFETY: a started fiber has a worker, this thread's.
    exit(unsafe { &*fiber.worker.load(Ordering::Relaxed) }, result)
}

/// Ends the running fiber.
pub(crate) fn exit(worker: &Worker, result: *mut c_void) -> ! {
    let me = worker.running();
    key::run_destructors(me);
    worker.runtimes.clear();
    let runtime = worker.runtime();
    let (stack, class) = (me.stack.get(), me.class.get());
    me.result.set(result);
    me.sp.set(null_mut());
    runtime.note_main_result(me, result);
    end(worker, me);
    // From here on the record belongs to whoever joins; we only still run on its stack, which this
    // worker owns.
    worker.current.set(null_mut());
    let share = &worker.remote.share;
    share.set_started(share.started() - 1);
    runtime.one_less();
    worker.stacks.borrow_mut().put(stack, class);
    if worker.starved.replace(false) {
        worker.turns.set_left(0);
    }
    let mut next = null_mut();
    if worker.turns.left() > 0 {
        next = worker.ready.pop();
        if next.is_null() {
            next = pick(worker);
        } else if !worker.ready.head().is_null() {
            // SAFETY: just looked.
            unsafe { ask_ahead(worker) };
        }
    } else if !round_is_over(worker) {
        next = pick(worker);
    }
    worker.current.set(next);
    // SAFETY: as in `pass_to`. A fresh fiber may have got the stack we run on: nothing on it is
    // needed any more.
    unsafe {
        if next.is_null() {
            switch::leave(worker.scheduler.get());
        }
        worker.turns.take();
        match (*next).sp.get() {
            to if to.is_null() => switch::leave_to_start(settle(worker, next), next, &worker.float),
            to => switch::leave(to),
        }
    }
}

/// Publishes that `me` has ended: to the one that waits for it, to a later join, or to nobody.
#[inline]
fn end(worker: &Worker, me: &'static Fiber) {
    let mut life = me.life();
    loop {
        let next = match life.state() {
            Life::DETACHED => return worker.records.put(me),
            Life::JOINED => life.with(Life::TAKEN),
            _ => life.with(Life::ENDED),
        };
        match me
            .life
            .compare_exchange(life.0, next.0, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) if life.state() == Life::JOINED => {
                // SAFETY: the joiner parked, or is about to, and leaves its waking to us alone.
                return unsafe { make_ready(life.joiner()) };
            }
            Ok(_) => return,
            Err(now) => life = Life(now),
        }
    }
}
