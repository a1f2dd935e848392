//! Picks the next fiber and switches to it directly from the running one.
//!
//! The scheduler's own context runs on the worker's thread stack (main_loop.rs). Fibers switch to
//! it only when no fiber can run or when a round is over. A round lasts as many switches as there
//! were runnable fibers when it began, at most [`MAX_ROUND`]. Between rounds the worker checks its
//! inbox, its timers and the shim. That work may need a deep stack, so it never runs on the stack
//! of a fiber: a parked fiber should have touched only one page. The scheduler picks ready and
//! unstarted fibers alternately.
//!
//! Two exceptions make a tree of fibers that create and join each other run depth first, so the
//! tree needs only as many stacks as it is deep. First, a fiber that joins an unstarted one while
//! no other fiber is ready switches to it at once, like a function call. Second, a fiber that ends
//! switches to a ready fiber if there is one, like a return. The first pick after the end of a
//! round ignores both exceptions, so every fiber makes progress.
//!
//! Invariants: the worker's current fiber is the one whose stack the thread runs on, or null on the
//! scheduler's own stack. A fiber that is neither current nor parked is in exactly one list. A
//! started fiber never changes its worker. A switch preserves errno.

use super::ready::make_ready;
use crate::arch::{self, Main};
use crate::clock::{self, Instant, NEVER};
use crate::errno::Errno;
use crate::record::fiber::{Fiber, Life};
use crate::record::stack;
use crate::record::wait_reason::WaitReason;
use crate::worker::state::Worker;
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::Ordering;

/// The maximum length of a round, in switches.
const MAX_ROUND: usize = 256;
/// The minimum length of a round that can end only for posts from other threads.
const SHORT_ROUND: u32 = 16;

/// Lets the other runnable fibers of this worker run first. Call it on a fiber of `worker`.
#[inline(always)]
pub(crate) fn yield_now(worker: &Worker) {
    if worker.thread_state().is_in_use() {
        return worker.thread_state().save_over(|| yield_now(worker));
    }
    let me = worker.current();
    let next = worker.ready().head();
    if next.is_null() || worker.unstarted().may_have_any() {
        return yield_slowly(worker);
    }
    // Most rounds end without work for the scheduler. Those take the same switch below: the CPU
    // predicts a jump that is always the same, and a mispredicted jump would cost more than all the
    // checks at the end of a round.
    if worker.round().turns_left() == 0 && round_is_over(worker) {
        return yield_to_scheduler(worker);
    }
    worker.round().take_turn();
    // SAFETY: the list is not empty and the running fiber is in no list. The errno address belongs
    // to this thread before and after the switch. Every fiber in the ready list was switched away
    // from on this thread.
    unsafe {
        let next = worker.ready().rotate(me);
        worker.set_current(next);
        prefetch_next(worker);
        let errno = *worker.errno();
        arch::switch((*me).sp.as_ptr(), (*next).sp.get());
        *worker.errno() = errno;
    }
}

/// Prefetches the stack of the second fiber in the ready list and the record of the third. With a
/// hundred fibers, both have left the first-level cache. With this prefetch, a switch among a
/// thousand fibers costs 7.2 ns instead of 12.9 ns.
///
/// # Safety
/// The ready list is not empty.
#[inline(always)]
unsafe fn prefetch_next(worker: &Worker) {
    // SAFETY: the list has a first fiber. The fibers in it were switched away from, and their
    // records are never unmapped.
    unsafe {
        let then = (*worker.ready().head()).next.get();
        if !then.is_null() {
            arch::prefetch((*then).sp.get());
            arch::prefetch((*then).next.get().cast());
        }
    }
}

#[cold]
#[inline(never)]
fn yield_slowly(worker: &Worker) {
    let me = worker.current();
    if worker.round().turns_left() == 0 && round_is_over(worker) {
        return yield_to_scheduler(worker);
    }
    let next = pick(worker);
    if next.is_null() {
        // No other fiber can run. The turn still counts: the round must end at some point, because
        // a fiber that yields until an event happens has to see that event.
        return worker.round().take_turn();
    }
    // SAFETY: the running fiber is in no list.
    unsafe { worker.ready().push(me) };
    switch_from_running(worker, next);
}

#[inline(never)]
fn yield_to_scheduler(worker: &Worker) {
    // SAFETY: the running fiber is in no list.
    unsafe { worker.ready().push(worker.current()) };
    switch_from_running(worker, null_mut());
}

/// Switches away from the running fiber until another fiber, thread or timer makes it ready. Call
/// it on a fiber of `worker`.
#[inline]
pub(crate) fn park(worker: &Worker) {
    let mut next = null_mut();
    if worker.round().turns_left() > 0 || !round_is_over(worker) {
        next = pick(worker);
        if next == worker.current() {
            // The fiber was made ready before it parked and is the next to run. This still counts
            // as a turn: a fiber that only ever yields to itself must reach the end of its round as
            // well, otherwise timers and other threads would wait forever.
            worker.round().take_turn();
            return;
        }
    }
    switch_from_running(worker, next);
}

/// Parks the running fiber in the shim. Call it on a fiber of `worker`.
#[inline]
pub(crate) fn park_in_shim(worker: &Worker) {
    // If the round began with nothing in flight, it was extended. Now there is an operation to
    // submit, so end the round once each of the other fibers has had its turn.
    if worker.ready().len() < SHORT_ROUND as usize {
        let round = worker.round();
        round.set_turns_left(round.turns_left().min(round_length(worker)));
    }
    park(worker);
}

/// Parks the running fiber until `fiber` has ended. `fiber` has already recorded that the running
/// fiber joins it. Call it on a fiber of `worker`.
#[inline]
pub(crate) fn park_until_ended(worker: &Worker, fiber: &'static Fiber) {
    if worker.round().turns_left() == 0
        || !worker.ready().head().is_null()
        || !worker.runtime().is_single()
    {
        return park(worker);
    }
    // This runtime has only one worker, but there may be other runtimes.
    let is_unstarted = fiber.worker().is_null() && fiber.is_of(worker.runtime());
    if !is_unstarted {
        return park(worker);
    }
    let Some(stack) = worker.take_stack(fiber.class.get()) else {
        return park(worker);
    };
    let fiber = (&raw const *fiber).cast_mut();
    // SAFETY: the fiber is live, belongs to this runtime and has not started, so it is in the queue
    // of the runtime's only worker. Taking it out makes it ours. Records are never unmapped.
    unsafe {
        worker.unstarted().take_out(fiber);
        (*fiber).stack.set(stack);
    }
    switch_from_running(worker, fiber);
}

/// Parks the running fiber until the time `until`. Returns `ECANCELED` if the fiber is cancelled.
/// Call it on a fiber of `worker`.
pub(crate) fn sleep_until(worker: &Worker, until: Instant) -> Result<(), Errno> {
    let me = worker.running();
    me.cancellation.check()?;
    me.set_wait_reason(WaitReason::Sleep, null());
    me.waiter.set(null());
    worker.set_timer(me, until);
    park(worker);
    me.cancellation.check()
}

/// Switches from the running fiber to `next`, or to the scheduler if `next` is null.
#[inline(always)]
fn switch_from_running(worker: &Worker, next: *mut Fiber) {
    if worker.thread_state().is_in_use() {
        return worker.thread_state().save_over(|| switch_to(worker, next));
    }
    switch_to(worker, next);
}

/// Does the work of [`switch_from_running`] for a fiber that has no state in the C and C++
/// runtimes.
#[inline(always)]
fn switch_to(worker: &Worker, next: *mut Fiber) {
    let me = worker.current();
    // SAFETY: the errno address stays valid because a fiber never changes its thread. `next` comes
    // from `pick`: it was switched away from on this thread, or it has a stack and never ran. The
    // scheduler's context was saved when it switched to a fiber.
    unsafe {
        let errno = *worker.errno();
        let save = (*me).sp.as_ptr();
        worker.set_current(next);
        if next.is_null() {
            arch::switch(save, worker.scheduler());
        } else {
            worker.round().take_turn();
            resume(worker, save, next);
        }
        *worker.errno() = errno;
    }
}

/// Runs `next` and saves the running context in `*save`.
///
/// # Safety
/// `next` comes from [`pick`] on this worker.
#[inline(always)]
pub(super) unsafe fn resume(worker: &Worker, save: *mut *mut u8, next: *mut Fiber) {
    // SAFETY: the caller guarantees that `next` comes from `pick`; records are never unmapped.
    unsafe {
        let to = (*next).sp.get();
        if to.is_null() {
            arch::start(save, adopt(worker, next), next, worker.float());
        } else {
            arch::switch(save, to);
        }
    }
}

/// Assigns an unstarted fiber with a stack to this worker and returns the top of its stack.
///
/// # Safety
/// `fiber` is an unstarted fiber from [`pick`].
#[inline(always)]
unsafe fn adopt(worker: &Worker, fiber: *mut Fiber) -> *mut u8 {
    // SAFETY: an unstarted fiber belongs to the worker that took it from the queue.
    let fiber = unsafe { &*fiber };
    fiber.set_worker(Some(worker));
    let load = worker.remote().load();
    load.set_started(load.started() + 1);
    stack::top(fiber.stack.get(), fiber.class.get())
}

/// Takes the next fiber to run, or returns null if there is none. An unstarted fiber has already
/// been given its stack.
#[inline(always)]
pub(super) fn pick(worker: &Worker) -> *mut Fiber {
    if worker.unstarted().may_have_any() {
        pick_mixed(worker)
    } else {
        worker.ready().pop()
    }
}

fn pick_mixed(worker: &Worker) -> *mut Fiber {
    if worker.takes_unstarted_turn() || worker.ready().head().is_null() {
        let unstarted = pick_unstarted(worker);
        if !unstarted.is_null() {
            return unstarted;
        }
    }
    worker.ready().pop()
}

fn pick_unstarted(worker: &Worker) -> *mut Fiber {
    let fiber = worker.unstarted().pop();
    // SAFETY: records are never unmapped; an unstarted fiber belongs to the worker that took it.
    if let Some(unstarted) = unsafe { fiber.as_ref() } {
        let Some(stack) = worker.take_stack(unstarted.class.get()) else {
            worker.set_out_of_stacks();
            // SAFETY: the fiber was just taken from the queue, so it is in no list and has never
            // run.
            unsafe { worker.unstarted().push(fiber, true) };
            return null_mut();
        };
        unstarted.stack.set(stack);
    }
    fiber
}

/// Returns whether there is work for the scheduler between rounds. If not, begins the next round.
#[inline(never)]
fn round_is_over(worker: &Worker) -> bool {
    let first = worker.first_timer();
    // While no fiber is parked in the shim, there is nothing to submit or reap.
    let over = worker.in_flight() > 0
        || !worker.remote().inbox().is_empty()
        || worker.remote().cancel_requests().has_any()
        || worker.has_excess_stacks()
        || (first != NEVER && first <= clock::now());
    if !over {
        // With only the inbox to check, a few fibers need not check it after every pass. If a fiber
        // parks in the shim during this longer round, `park_in_shim` shortens the round.
        let least = if first == NEVER { SHORT_ROUND } else { 1 };
        worker
            .round()
            .set_turns_left(round_length(worker).max(least));
    }
    over
}

/// Returns the length, in switches, of a round that begins now.
pub(super) fn round_length(worker: &Worker) -> u32 {
    (worker.ready().len() + worker.unstarted().len()).clamp(1, MAX_ROUND) as u32
}

impl Main for Fiber {
    /// Runs the fiber's function and ends the fiber.
    extern "C" fn main(fiber: *mut Fiber) -> ! {
        // SAFETY: records are never unmapped.
        let fiber = unsafe { &*fiber };
        let result = (fiber.entry.get())(fiber.arg.get());
        // SAFETY: a started fiber has a worker, which is the worker of this thread.
        exit(unsafe { &*fiber.worker() }, result)
    }
}

/// Ends the running fiber.
pub(crate) fn exit(worker: &Worker, result: *mut c_void) -> ! {
    let me = worker.running();
    me.locals.run_destructors();
    worker.thread_state().clear();
    let runtime = worker.runtime();
    let (stack, class) = (me.stack.get(), me.class.get());
    me.result.set(result);
    me.sp.set(null_mut());
    runtime.note_main_result(me, result);
    end(worker, me);
    // From here on, the record belongs to the fiber that joins this one. We only still run on its
    // stack, which this worker owns.
    worker.set_current(null_mut());
    let load = worker.remote().load();
    load.set_started(load.started() - 1);
    runtime.count_end();
    worker.put_stack(stack, class);
    if worker.take_out_of_stacks() {
        worker.round().set_turns_left(0);
    }
    let mut next = null_mut();
    if worker.round().turns_left() > 0 {
        next = worker.ready().pop();
        if next.is_null() {
            next = pick(worker);
        } else if !worker.ready().head().is_null() {
            // SAFETY: the ready list was just checked and is not empty.
            unsafe { prefetch_next(worker) };
        }
    } else if !round_is_over(worker) {
        next = pick(worker);
    }
    worker.set_current(next);
    // SAFETY: `next` comes from `pick` or from the ready list, see `switch_to`. An unstarted fiber
    // may have been given the stack that we run on; nothing on that stack is needed any more.
    unsafe {
        if next.is_null() {
            arch::leave(worker.scheduler());
        }
        worker.round().take_turn();
        match (*next).sp.get() {
            to if to.is_null() => arch::leave_to_start(adopt(worker, next), next, worker.float()),
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
            Life::DETACHED => return worker.records().put(me),
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
