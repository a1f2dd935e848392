//! Scheduling: picks the next fiber and switches to it directly from the running one.
//!
//! The scheduler's own context runs on the worker's thread stack. Fibers switch to it only when no
//! fiber can run or when a round is over. A round lasts as many switches as there were runnable
//! fibers when it began, at most [`ROUND`]. Between rounds the worker checks its inbox, its timers
//! and the shim. That work may need a deep stack, so it never runs on the stack of a fiber: a
//! parked fiber should have touched only one page. The scheduler picks ready and fresh (not yet
//! started) fibers alternately.
//!
//! Two exceptions make a tree of fibers that create and join each other run depth first, so the
//! tree needs only as many stacks as it is deep. First, a fiber that joins a fresh one while no
//! other fiber is ready switches to it at once, like a function call. Second, a fiber that ends
//! switches to a ready fiber if there is one, like a return. The first pick after the end of a
//! round ignores both exceptions, so every fiber makes progress.
//!
//! Invariants: `current` is the fiber whose stack the thread runs on, or null on the scheduler's
//! own stack. A fiber that is neither current nor parked is in exactly one list. A started fiber
//! never changes its worker. A switch preserves errno.

use crate::arch::{self, Main};
use crate::clock::{self, Instant, NEVER};
use crate::errno::Errno;
use crate::record::fiber::{Fiber, Life, Waits};
use crate::record::key;
use crate::sched::cancel;
use crate::sched::idle;
use crate::sched::park;
use crate::worker::current;
use crate::worker::state::Worker;
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::Ordering;

/// The maximum length of a round, in switches.
const ROUND: usize = 256;
/// The minimum length of a round that can end only for posts from other threads.
const SHORT_ROUND: u32 = 16;

/// Lets the other runnable fibers of this worker run first. Call it on a fiber of `worker`.
#[inline(always)]
pub(crate) fn yield_now(worker: &Worker) {
    if worker.thread_state.is_in_use() {
        return worker.thread_state.save_over(|| yield_now(worker));
    }
    let me = worker.current.get();
    let next = worker.ready.head();
    if next.is_null() || worker.fresh.any() {
        return yield_slowly(worker);
    }
    // Most rounds end without work for the scheduler. Those take the same switch below: the CPU
    // predicts a jump that is always the same, and a mispredicted jump would cost more than all the
    // checks at the end of a round.
    if worker.turns.left() == 0 && round_is_over(worker) {
        return yield_to_scheduler(worker);
    }
    worker.turns.take();
    // SAFETY: the list is not empty and the running fiber is in no list. The errno address belongs
    // to this thread before and after the switch. Every fiber in the ready list was switched away
    // from on this thread.
    unsafe {
        let next = worker.ready.rotate(me);
        worker.current.set(next);
        ask_ahead(worker);
        let errno = *worker.errno.get();
        arch::switch((*me).sp.as_ptr(), (*next).sp.get());
        *worker.errno.get() = errno;
    }
}

/// Prefetches the stack of the second fiber in the ready list and the record of the third. With a
/// hundred fibers, both have left the first-level cache. With this prefetch, a switch among a
/// thousand fibers costs 7.2 ns instead of 12.9 ns.
///
/// # Safety
/// The ready list is not empty.
#[inline(always)]
unsafe fn ask_ahead(worker: &Worker) {
    // SAFETY: the list has a first fiber. The fibers in it were switched away from, and their
    // records are never unmapped.
    unsafe {
        let then = (*worker.ready.head()).next.get();
        if !then.is_null() {
            arch::prefetch((*then).sp.get());
            arch::prefetch((*then).next.get().cast());
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
        // No other fiber can run. The turn still counts: the round must end at some point, because
        // a fiber that yields until an event happens has to see that event.
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

/// Switches away from the running fiber until another fiber, thread or timer makes it ready. Call
/// it on a fiber of `worker`.
#[inline]
pub(crate) fn park(worker: &Worker) {
    let mut next = null_mut();
    if worker.turns.left() > 0 || !round_is_over(worker) {
        next = pick(worker);
        if next == worker.current.get() {
            // The fiber was made ready before it parked and is the next to run. This still counts
            // as a turn: a fiber that only ever yields to itself must reach the end of its round as
            // well, otherwise timers and other threads would wait forever.
            worker.turns.take();
            return;
        }
    }
    pass_to(worker, next);
}

/// Parks the running fiber in the shim. Call it on a fiber of `worker`.
#[inline]
pub(crate) fn park_in_shim(worker: &Worker) {
    // If the round began with nothing in flight, it was extended. Now there is an operation to
    // submit, so end the round once each of the other fibers has had its turn.
    if worker.ready.len() < SHORT_ROUND as usize {
        worker
            .turns
            .set_left(worker.turns.left().min(round(worker)));
    }
    park(worker);
}

/// Parks the running fiber until `fiber` has ended. `fiber` has already recorded that the running
/// fiber joins it. Call it on a fiber of `worker`.
#[inline]
pub(crate) fn park_until_ended(worker: &Worker, fiber: &'static Fiber) {
    if worker.turns.left() == 0 || !worker.ready.head().is_null() || !worker.runtime().is_single() {
        return park(worker);
    }
    // This runtime has only one worker, but there may be other runtimes.
    let is_fresh = fiber.worker.load(Ordering::Relaxed).is_null()
        && core::ptr::eq(fiber.runtime.load(Ordering::Relaxed), worker.runtime);
    if !is_fresh {
        return park(worker);
    }
    let Some(stack) = worker.stacks.borrow_mut().take(fiber.class.get()) else {
        return park(worker);
    };
    let fiber = (&raw const *fiber).cast_mut();
    // SAFETY: the fiber is live, belongs to this runtime and has not started, so it is in the queue
    // of the runtime's only worker. Taking it out makes it ours. Records are never unmapped.
    unsafe {
        worker.fresh.take_out(fiber);
        (*fiber).stack.set(stack);
    }
    pass_to(worker, fiber);
}

/// Parks the running fiber until the time `until`. Returns `ECANCELED` if the fiber is cancelled.
/// Call it on a fiber of `worker`.
pub(crate) fn sleep_until(worker: &Worker, until: Instant) -> Result<(), Errno> {
    let me = worker.running();
    cancel::check(me)?;
    me.set_waits(Waits::Sleep, null());
    me.waiter.set(null());
    worker.timers.borrow_mut().set(me, until);
    park(worker);
    cancel::check(me)
}

/// Switches from the running fiber to `next`, or to the scheduler if `next` is null.
#[inline(always)]
fn pass_to(worker: &Worker, next: *mut Fiber) {
    if worker.thread_state.is_in_use() {
        return worker.thread_state.save_over(|| switch_to(worker, next));
    }
    switch_to(worker, next);
}

/// Does the work of [`pass_to`] for a fiber that has no state in the C and C++ runtimes.
#[inline(always)]
fn switch_to(worker: &Worker, next: *mut Fiber) {
    let me = worker.current.get();
    // SAFETY: the errno address stays valid because a fiber never changes its thread. `next` comes
    // from `pick`: it was switched away from on this thread, or it has a stack and never ran. The
    // scheduler's context was saved when it switched to a fiber.
    unsafe {
        let errno = *worker.errno.get();
        let save = (*me).sp.as_ptr();
        worker.current.set(next);
        if next.is_null() {
            arch::switch(save, worker.scheduler.get());
        } else {
            worker.turns.take();
            go(worker, save, next);
        }
        *worker.errno.get() = errno;
    }
}

/// Runs `next` and saves the running context in `*save`.
///
/// # Safety
/// `next` comes from [`pick`] on this worker.
#[inline(always)]
unsafe fn go(worker: &Worker, save: *mut *mut u8, next: *mut Fiber) {
    // SAFETY: the caller guarantees that `next` comes from `pick`; records are never unmapped.
    unsafe {
        let to = (*next).sp.get();
        if to.is_null() {
            arch::start(save, settle(worker, next), next, &worker.float);
        } else {
            arch::switch(save, to);
        }
    }
}

/// Assigns a fresh fiber with a stack to this worker and returns the top of its stack.
///
/// # Safety
/// `fiber` is a fresh fiber from [`pick`].
#[inline(always)]
unsafe fn settle(worker: &Worker, fiber: *mut Fiber) -> *mut u8 {
    // SAFETY: a fresh fiber belongs to the worker that took it from the queue.
    let fiber = unsafe { &*fiber };
    fiber
        .worker
        .store((&raw const *worker).cast_mut(), Ordering::Relaxed);
    let share = &worker.remote.share;
    share.set_started(share.started() + 1);
    crate::record::stack::top(fiber.stack.get(), fiber.class.get())
}

/// Takes the next fiber to run, or returns null if there is none. A fresh fiber has already been
/// given its stack.
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
    // SAFETY: records are never unmapped; a fresh fiber belongs to the worker that took it.
    if let Some(fresh) = unsafe { fiber.as_ref() } {
        let Some(stack) = worker.stacks.borrow_mut().take(fresh.class.get()) else {
            worker.starved.set(true);
            // SAFETY: the fiber was just taken from the queue, so it is in no list and has never
            // run.
            unsafe { worker.fresh.push(fiber, true) };
            return null_mut();
        };
        fresh.stack.set(stack);
    }
    fiber
}

/// Makes a parked fiber ready on its worker. Callable from any thread.
///
/// # Safety
/// The fiber is parked or just about to park, and the caller is its only waker.
#[inline]
pub(crate) unsafe fn make_ready(fiber: *const Fiber) {
    // SAFETY: records are never unmapped; a started fiber has a worker, which outlives its fibers.
    let (record, home) = unsafe {
        (
            &*fiber,
            (*fiber).worker.load(Ordering::Relaxed).cast_const(),
        )
    };
    record.waits_no_more();
    let fiber = fiber.cast_mut();
    match current::worker() {
        // SAFETY: the fiber is parked and only we wake it, so it is in no list.
        Some(worker) if core::ptr::eq(worker, home) => unsafe { worker.ready.push(fiber) },
        _ => {
            // SAFETY: the worker exists while its fiber is parked, and after that until `wakers` is
            // zero again. Other threads may use the remote part. Only we wake the fiber, so we may
            // send it.
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

/// Makes a parked fiber of `worker` ready. Call it on the thread of `worker`.
///
/// # Safety
/// The same as for [`make_ready`], and the caller runs on the thread of `worker`.
#[inline]
pub(crate) unsafe fn make_ready_here(worker: &Worker, fiber: *mut Fiber) {
    // SAFETY: records are never unmapped; the fiber is parked and only we wake it, so it is in no
    // list.
    unsafe {
        (*fiber).waits_no_more();
        worker.ready.push(fiber);
    }
}

/// Returns whether there is work for the scheduler between rounds. If not, begins the next round.
#[inline(never)]
fn round_is_over(worker: &Worker) -> bool {
    let first = worker.timers.borrow().first();
    // While no fiber is parked in the shim, there is nothing to submit or reap.
    let over = worker.host.get().is_some_and(|host| host.in_flight() > 0)
        || !worker.remote.inbox.is_empty()
        || worker.remote.cancels.any()
        || worker.stacks.borrow().has_excess()
        || (first != NEVER && first <= clock::now());
    if !over {
        // With only the inbox to check, a few fibers need not check it after every pass. If a fiber
        // parks in the shim during this longer round, `park_in_shim` shortens the round.
        let least = if first == NEVER { SHORT_ROUND } else { 1 };
        worker.turns.set_left(round(worker).max(least));
    }
    over
}

/// Returns the length, in switches, of a round that begins now.
fn round(worker: &Worker) -> u32 {
    (worker.ready.len() + worker.fresh.len()).clamp(1, ROUND) as u32
}

/// Runs the scheduler's own context: runs fibers until the last one of the runtime has ended.
pub(crate) fn run(worker: &Worker) {
    let runtime = worker.runtime();
    loop {
        worker.remote.inbox.take(|fiber| {
            // SAFETY: a fiber's only waker sent it, and it was just taken out, so it is in no list.
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
            // SAFETY: `next` comes from `pick`. Every switch back to the scheduler sets `current`
            // to null.
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
    let now = clock::now();
    loop {
        let due = worker.timers.borrow_mut().pop(now);
        match due {
            // SAFETY: records are never unmapped. A fiber with a timer is either parked on this
            // worker, or ready and about to cancel its timer.
            Some(fiber) => park::time_out(unsafe { &*fiber }),
            None => return,
        }
    }
}

impl Main for Fiber {
    /// Runs the fiber's function and ends the fiber.
    extern "C" fn main(fiber: *mut Fiber) -> ! {
        // SAFETY: records are never unmapped.
        let fiber = unsafe { &*fiber };
        let result = (fiber.entry.get())(fiber.arg.get());
        // SAFETY: a started fiber has a worker, which is the worker of this thread.
        exit(unsafe { &*fiber.worker.load(Ordering::Relaxed) }, result)
    }
}

/// Ends the running fiber.
pub(crate) fn exit(worker: &Worker, result: *mut c_void) -> ! {
    let me = worker.running();
    key::run_destructors(me);
    worker.thread_state.clear();
    let runtime = worker.runtime();
    let (stack, class) = (me.stack.get(), me.class.get());
    me.result.set(result);
    me.sp.set(null_mut());
    runtime.note_main_result(me, result);
    end(worker, me);
    // From here on, the record belongs to the fiber that joins this one. We only still run on its
    // stack, which this worker owns.
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
            // SAFETY: the ready list was just checked and is not empty.
            unsafe { ask_ahead(worker) };
        }
    } else if !round_is_over(worker) {
        next = pick(worker);
    }
    worker.current.set(next);
    // SAFETY: `next` comes from `pick` or from the ready list, see `switch_to`. A fresh fiber may
    // have been given the stack that we run on; nothing on that stack is needed any more.
    unsafe {
        if next.is_null() {
            arch::leave(worker.scheduler.get());
        }
        worker.turns.take();
        match (*next).sp.get() {
            to if to.is_null() => arch::leave_to_start(settle(worker, next), next, &worker.float),
            to => arch::leave(to),
        }
    }
}

/// Publishes that `me` has ended and wakes the fiber that joins it, if there is one.
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
                // SAFETY: the joiner has parked or is about to, and only we wake it.
                return unsafe { make_ready(life.joiner()) };
            }
            Ok(_) => return,
            Err(now) => life = Life(now),
        }
    }
}
