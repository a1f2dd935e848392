//! Condition variable: `fiber_cond_t`, and [`Condvar`].
//!
//! A waiter is queued before it unlocks the mutex, so a signal sent under the mutex finds it.
//! Signals come from any thread; one that finds nobody is a single load.

use super::mutex::{MutexGuard, RawMutex};
use super::{Forever, Until, misuse, on_fiber};
use crate::cancel;
use crate::errno::Errno;
use crate::fiber::Waits;
use crate::park::{self, Queue};
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

    /// `EBUSY` while fibers wait.
    pub(crate) fn destroy(&self) -> Result<(), Errno> {
        if self.queue.lock().is_empty() {
            Ok(())
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// Unlocks `mutex`, waits, locks it again, whatever ended the wait. `EPERM` when the caller
    /// does not own it.
    pub(crate) fn wait(&self, mutex: &RawMutex, until: impl Until) -> Result<(), Errno> {
        let worker = on_fiber()?;
        mutex.check_owned()?;
        cancel::check(worker.running())?;
        let until = until.instant()?;
        let mut depth = 0;
        let woken = park::wait(worker, self.queue.lock(), Waits::Cond, 0, until, || {
            depth = mutex.release()
        });
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
    /// Nobody waits.
    pub const fn new() -> Self {
        Condvar {
            raw: RawCond::new(),
        }
    }

    /// Unlocks, waits to be notified, locks again. May park. As with any condition variable, look
    /// at the condition again.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        match cancel::unwinding(|| self.raw.wait(&guard.mutex.raw, Forever)) {
            Ok(()) => guard,
            Err(e) => misuse("Condvar::wait", e),
        }
    }

    /// Waits until `condition` is false.
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

    /// As [`wait`](Self::wait), but no longer than `limit`; whether the time ran out.
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        match cancel::unwinding(|| self.raw.wait(&guard.mutex.raw, limit)) {
            Ok(()) => (guard, false),
            Err(Errno::ETIMEDOUT) => (guard, true),
            Err(e) => misuse("Condvar::wait_timeout", e),
        }
    }

    /// Wakes one waiter. From any thread.
    pub fn notify_one(&self) {
        self.raw.signal();
    }

    /// Wakes all waiters. From any thread.
    pub fn notify_all(&self) {
        self.raw.broadcast();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}
