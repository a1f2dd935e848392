//! Requests to cancel a fiber, deferred as in pthreads: a request ends the current wait of the
//! fiber, or takes effect when the fiber reaches its next cancellation point (cancel_point.rs).
//!
//! A request is a bit in the fiber's record, which the requester sets directly. The fiber's own
//! worker then ends the wait between two rounds, as a timer would.
//!
//! Invariant: a wait that was ended has had no effect.

use super::interrupt;
use super::ready::make_ready_here;
use crate::errno::Errno;
use crate::record::fiber::{Fiber, Handle};
use crate::record::wait_reason::WaitReason;
use crate::worker::current::on_fiber;
use crate::worker::state::Worker;

/// Requests the cancellation of a fiber. Call it on a fiber. Returns `ESRCH` if the target no
/// longer exists or belongs to another runtime.
pub(crate) fn request(name: Handle) -> Result<(), Errno> {
    let here = on_fiber()?;
    let fiber = name.fiber().ok_or(Errno::ESRCH)?;
    if !fiber.is_of(here.runtime()) {
        return Err(Errno::ESRCH);
    }
    fiber.cancellation.request();
    if core::ptr::eq(fiber, here.running()) {
        return Ok(());
    }
    // If the fiber is just starting on another worker, either it sees the bit or we see its worker.
    barrier();
    // SAFETY: the worker belongs to this runtime, which outlives the caller.
    if let Some(home) = unsafe { fiber.worker().as_ref() } {
        home.remote().cancel_requests().add(name);
        if !core::ptr::eq(home, here) {
            home.remote().end_sleep();
        }
    }
    Ok(())
}

/// Orders the earlier accesses of this thread before the later ones of every other thread. The
/// other threads need no barrier of their own.
fn barrier() {
    use rustix::thread::{MembarrierCommand, membarrier};
    let _ = membarrier(MembarrierCommand::RegisterPrivateExpedited);
    let _ = membarrier(MembarrierCommand::PrivateExpedited);
}

/// Ends the wait in the shim that the running fiber is about to begin, because cancellation was
/// requested before.
#[cold]
pub(crate) fn end_this_wait(worker: &Worker, me: &Fiber) {
    worker.remote().cancel_requests().add(me.handle());
}

/// Ends the waits of those fibers of `worker` whose cancellation was requested. Runs on the
/// scheduler's stack of `worker`.
#[cold]
#[inline(never)]
pub(crate) fn deliver(worker: &Worker) {
    for name in worker.remote().cancel_requests().take() {
        let mine = |fiber: &&Fiber| core::ptr::eq(fiber.worker(), worker);
        let Some(fiber) = name.fiber().filter(mine) else {
            continue;
        };
        if fiber.cancellation.check().is_ok() {
            continue;
        }
        match fiber.wait_reason() {
            WaitReason::Sleep => {
                worker.cancel_timer(fiber);
                // SAFETY: the fiber sleeps without a timer, so only we, on its own worker, can wake
                // it.
                unsafe { make_ready_here(worker, core::ptr::from_ref(fiber).cast_mut()) };
            }
            WaitReason::Cond | WaitReason::Semaphore => interrupt::cancel_wait(fiber),
            WaitReason::Join => interrupt::cancel_join(fiber),
            WaitReason::Shim => {
                if let Some(shim) = worker.shim() {
                    shim.cancel(fiber);
                }
            }
            // Other waits are not cancellation points, and a fiber that does not wait needs no
            // wake-up.
            _ => {}
        }
    }
}
