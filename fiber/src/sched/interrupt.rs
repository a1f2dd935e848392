//! Ending the wait of a parked fiber before its event: by its timer or by a cancellation.
//!
//! Invariant: this runs on the worker of the fiber. If a waker was faster, it has no effect.

use super::ready::make_ready;
use crate::errno::Errno;
use crate::record::fiber::{Fiber, Life};
use crate::record::wait_queue::Waiter;
use core::sync::atomic::Ordering;

/// Ends the wait of `fiber`, whose timer expired, unless a waker was faster. Runs on the worker of
/// `fiber`.
pub(crate) fn time_out(fiber: &Fiber) {
    // SAFETY: the pointer is set only while the fiber is parked, and the node lies on its stack.
    let waiter = unsafe { fiber.waiter.get().as_ref() };
    if waiter.is_none_or(|waiter| waiter.end_early(Errno::ETIMEDOUT)) {
        // SAFETY: the fiber is parked. Either we took it out of its queue or it was in none, so we
        // are its only waker.
        unsafe { make_ready(fiber) };
    }
}

/// Ends the wait of `fiber` with `ECANCELED`. The wait must allow an early end. Runs on the worker
/// of `fiber`.
pub(crate) fn cancel_wait(fiber: &Fiber) {
    // SAFETY: the pointer is set only while the fiber is parked, and the node lies on its stack.
    if let Some(waiter) = unsafe { fiber.waiter.get().as_ref() }
        && waiter.end_early(Errno::ECANCELED)
    {
        // SAFETY: the fiber is parked and we took it out of its queue. If its timer expires before
        // the fiber runs, the timer finds that it is in no queue.
        unsafe { make_ready(fiber) };
    }
}

/// Ends the join that `fiber` is parked in, unless the target has ended. Call it on the worker of
/// `fiber`. Afterwards another fiber may join the target.
pub(crate) fn cancel_join(fiber: &Fiber) {
    // SAFETY: the target of a join is a record, and these are never unmapped.
    let target = unsafe { &*(fiber.waits_on.load(Ordering::Relaxed) as *const Fiber) };
    let life = target.life();
    let mine = life.state() == Life::JOINED && core::ptr::eq(life.joiner(), fiber);
    if mine && target.change_life(life, life.with(Life::LIVE)) {
        fiber.waiter.set(JOIN_CANCELLED);
        // SAFETY: the fiber is parked, and its target, the only other possible waker, no longer
        // knows it.
        unsafe { make_ready(fiber) };
    }
}

/// The value of [`Fiber::waiter`] in a fiber whose join was cancelled; never dereferenced.
pub(crate) const JOIN_CANCELLED: *const Waiter = core::ptr::dangling();
