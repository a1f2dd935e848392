//! Parking the running fiber in the wait queue of an object.

use super::switching;
use crate::clock::{Instant, NEVER};
use crate::errno::Errno;
use crate::record::wait_queue::{Locked, Place, Waiter};
use crate::record::wait_reason::WaitReason;
use crate::worker::state::Worker;
use core::ptr::null;

/// Parks the running fiber in the locked queue until it is woken. Returns `ETIMEDOUT` if `until`
/// passes first. At a cancellation point, returns `ECANCELED` if the fiber is cancelled.
///
/// Calls `between` when the fiber is queued and the queue is unlocked, before switching away.
#[inline]
pub(crate) fn wait(
    worker: &Worker,
    queue: Locked<'_>,
    reason: WaitReason,
    tag: u8,
    until: Instant,
    between: impl FnOnce(),
) -> Result<(), Errno> {
    wait_at(Place::Last, worker, queue, reason, tag, until, between)
}

/// Like [`wait`], but joins the queue at `place`.
#[inline(always)]
pub(crate) fn wait_at(
    place: Place,
    worker: &Worker,
    mut queue: Locked<'_>,
    reason: WaitReason,
    tag: u8,
    until: Instant,
    between: impl FnOnce(),
) -> Result<(), Errno> {
    let me = worker.running();
    let is_point = matches!(reason, WaitReason::Cond | WaitReason::Semaphore);
    let waiter = Waiter::new(me, &queue, tag, until != NEVER || is_point);
    me.set_wait_reason(reason, queue.address());
    queue.push(&waiter, place);
    drop(queue);
    if until == NEVER {
        me.waiter.set(&waiter);
        between();
        switching::park(worker);
        me.waiter.set(null());
        return waiter.result();
    }
    me.waiter.set(&waiter);
    worker.set_timer(me, until);
    between();
    switching::park(worker);
    worker.cancel_timer(me);
    me.waiter.set(null());
    waiter.result()
}
