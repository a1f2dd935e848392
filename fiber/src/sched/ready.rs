//! Making parked fibers ready.
//!
//! Invariant: a parked fiber has exactly one waker at a time, so it is made ready once per park.

use crate::record::fiber::Fiber;
use crate::record::wait_queue::{Chain, Woken};
use crate::worker::current;
use crate::worker::state::Worker;

/// Makes a parked fiber ready on its worker. Callable from any thread.
///
/// # Safety
/// The fiber is parked or just about to park, and the caller is its only waker.
#[inline]
pub(crate) unsafe fn make_ready(fiber: *const Fiber) {
    // SAFETY: records are never unmapped.
    let record = unsafe { &*fiber };
    let home = record.worker();
    record.clear_wait_reason();
    let fiber = fiber.cast_mut();
    match current::worker() {
        // SAFETY: the fiber is parked and only we wake it, so it is in no list.
        Some(worker) if core::ptr::eq(worker, home) => unsafe { worker.ready().push(fiber) },
        // SAFETY: a started fiber has a worker. The worker exists while its fiber is parked, and
        // after that until no thread is in the middle of waking it. Only we wake the fiber.
        _ => unsafe { Worker::remote_of(home).make_ready(fiber) },
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
        (*fiber).clear_wait_reason();
        worker.ready().push(fiber);
    }
}

impl Woken {
    /// Makes the fiber ready. Do not call this while holding the queue's lock: the object may be
    /// freed as soon as the fiber runs.
    #[inline]
    pub(crate) fn wake(self) {
        // SAFETY: the fiber is parked, and taking it out of the queue made us its only waker.
        unsafe { make_ready(self.fiber()) };
    }
}

impl Chain {
    /// Makes all fibers ready. Do not call this while holding the queue's lock.
    pub(crate) fn wake(mut self) {
        while let Some(woken) = self.pop() {
            woken.wake();
        }
    }
}
