//! Barrier: `fiber_barrier_t` and [`Barrier`].
//!
//! The last fiber to arrive takes the whole queue and resets the count in one step. Therefore the
//! barrier can be reused or destroyed before the first of the woken fibers runs.

use super::misuse;
use crate::clock::NEVER;
use crate::errno::Errno;
use crate::record::wait_queue::Queue;
use crate::record::wait_reason::WaitReason;
use crate::sched::wait;
use crate::worker::current::on_fiber;
use core::sync::atomic::{AtomicU64, Ordering};

/// `fiber_barrier_t`.
#[repr(C)]
pub(crate) struct RawBarrier {
    /// The state of the queue is the number of fibers that have arrived.
    queue: Queue,
    count: AtomicU64,
}

impl RawBarrier {
    /// Returns `EINVAL` if `count` is 0.
    pub(crate) const fn new(count: u32) -> Result<RawBarrier, Errno> {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(RawBarrier {
            queue: Queue::new(0),
            count: AtomicU64::new(count as u64),
        })
    }

    /// Returns `EBUSY` while fibers wait.
    pub(crate) fn destroy(&self) -> Result<(), Errno> {
        if self.queue.lock().is_empty() {
            Ok(())
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// Waits until all fibers have arrived. Returns whether the caller was the last.
    pub(crate) fn wait(&self) -> Result<bool, Errno> {
        let worker = on_fiber()?;
        let count = self.count.load(Ordering::Relaxed);
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let mut queue = self.queue.lock();
        let arrived = queue.state() + 1;
        if arrived < count {
            queue.set_state(arrived);
            wait::wait(worker, queue, WaitReason::Barrier, 0, NEVER, || ())?;
            return Ok(false);
        }
        queue.set_state(0);
        let all = queue.pop_all();
        drop(queue);
        all.wake();
        Ok(true)
    }
}

/// Lets a number of fibers wait for each other. It can be used repeatedly.
pub struct Barrier {
    raw: RawBarrier,
}

/// The result of [`Barrier::wait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for exactly one fiber per round.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// Creates a barrier for `count` fibers.
    ///
    /// # Panics
    /// Panics if `count` is 0.
    #[track_caller]
    pub const fn new(count: u32) -> Self {
        match RawBarrier::new(count) {
            Ok(raw) => Barrier { raw },
            Err(_) => panic!("a barrier for no fibers"),
        }
    }

    /// Waits until as many fibers have called this as the barrier was created for. May park.
    ///
    /// # Panics
    /// Panics off a fiber.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        match self.raw.wait() {
            Ok(last) => BarrierWaitResult(last),
            Err(e) => misuse("Barrier::wait", e),
        }
    }
}
