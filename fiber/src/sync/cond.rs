//! Condition variable: `fiber_cond_t` and [`Condvar`].
//!
//! A waiter is queued before it unlocks the mutex, so a signal that is sent while holding the mutex
//! reaches it. Any thread may signal. A signal without a waiter costs a single load.

use super::mutex::{MutexGuard, RawMutex};
use super::{Forever, Until, misuse};
use crate::errno::Errno;
use crate::record::wait_queue::Queue;
use crate::record::wait_reason::WaitReason;
use crate::sched::cancel_point;
use crate::sched::wait;
use crate::worker::current::on_fiber;
use core::sync::atomic::Ordering;
use std::time::Duration;

/// `fiber_cond_t`.
#[repr(C)]
pub(crate) struct RawCond {
    queue: Queue,
    reserved: u64,
}

impl RawCond {
    pub(crate) const fn new() -> RawCond {
        RawCond {
            queue: Queue::new(0),
            reserved: 0,
        }
    }

    /// Returns `EBUSY` while fibers wait.
    pub(crate) fn destroy(&self) -> Result<(), Errno> {
        if self.queue.lock().is_empty() {
            Ok(())
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// Unlocks `mutex`, waits, and locks it again, even if the wait ended early. Returns `EPERM` if
    /// the caller does not own the mutex.
    pub(crate) fn wait(&self, mutex: &RawMutex, until: impl Until) -> Result<(), Errno> {
        let worker = on_fiber()?;
        mutex.check_owned()?;
        worker.running().cancellation.check()?;
        let until = until.instant()?;
        let mut depth = 0;
        let woken = wait::wait(
            worker,
            self.queue.lock(),
            WaitReason::Cond,
            0,
            until,
            || depth = mutex.release(),
        );
        mutex.relock(depth);
        woken
    }

    /// Wakes one waiter.
    #[inline]
    pub(crate) fn signal(&self) {
        if self.queue.word.load(Ordering::SeqCst) != 0 {
            let first = self.queue.lock().pop();
            if let Some(first) = first {
                first.wake();
            }
        }
    }

    /// Wakes all waiters.
    pub(crate) fn broadcast(&self) {
        if self.queue.word.load(Ordering::SeqCst) != 0 {
            let all = self.queue.lock().pop_all();
            all.wake();
        }
    }
}

/// Waits for a condition on a value behind a [`Mutex`](super::Mutex).
pub struct Condvar {
    raw: RawCond,
}

impl Condvar {
    /// Creates a condition variable without waiters.
    pub const fn new() -> Self {
        Condvar {
            raw: RawCond::new(),
        }
    }

    /// Unlocks the mutex, waits for a notification and locks the mutex again. May park. The caller
    /// must check its condition again, as with any condition variable.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        match cancel_point::unwinding(|| self.raw.wait(&guard.mutex.raw, Forever)) {
            Ok(()) => guard,
            Err(e) => misuse("Condvar::wait", e),
        }
    }

    /// Waits until `condition` is false. May park.
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// Like [`wait`](Self::wait), but waits no longer than `limit`. Returns true if the time ran
    /// out.
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        match cancel_point::unwinding(|| self.raw.wait(&guard.mutex.raw, limit)) {
            Ok(()) => (guard, false),
            Err(Errno::ETIMEDOUT) => (guard, true),
            Err(e) => misuse("Condvar::wait_timeout", e),
        }
    }

    /// Wakes one waiter. Callable from any thread.
    pub fn notify_one(&self) {
        self.raw.signal();
    }

    /// Wakes all waiters. Callable from any thread.
    pub fn notify_all(&self) {
        self.raw.broadcast();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}
