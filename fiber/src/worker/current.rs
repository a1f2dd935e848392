//! The worker that runs on this OS thread.
//!
//! Invariant: the thread's slot is non-null exactly while the thread is inside `fiber_run` or a
//! worker's main function, and then points to a live [`Worker`]. A started fiber never changes its
//! thread, so a value read before a switch is still right after it.

use super::state::Worker;
use crate::arch::slots;
use crate::errno::Errno;

/// Sets the worker of this thread, or null if it no longer runs one.
pub(crate) fn set_worker(worker: *const Worker) {
    slots::set_worker(worker.cast());
}

/// Returns the worker that this thread runs, if any.
#[inline(always)]
pub(crate) fn worker() -> Option<&'static Worker> {
    // SAFETY: a non-null slot points to a worker that outlives every fiber of this thread
    // (the launch clears the slot before it frees the workers), and only code of this thread gets
    // the reference.
    unsafe { slots::worker().cast::<Worker>().as_ref() }
}

/// Returns the worker of the calling fiber, or `EPERM` off a fiber.
#[inline(always)]
pub(crate) fn on_fiber() -> Result<&'static Worker, Errno> {
    worker()
        .filter(|w| !w.current().is_null())
        .ok_or(Errno::EPERM)
}
