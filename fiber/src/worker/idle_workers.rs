//! The number of workers that have nothing to do, for the detection of deadlocks.
//!
//! Invariant: a worker counts as idle only while nothing of its own can end its sleep. If all
//! workers are idle and no wake-up is on its way, the runtime is in a deadlock.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Counts the workers of a runtime that only another thread can wake.
#[derive(Default)]
pub(crate) struct IdleWorkers {
    count: AtomicUsize,
    /// Counts the wake-ups. A deadlock check uses it to detect that a worker woke during the check.
    wakeups: AtomicUsize,
}

impl IdleWorkers {
    /// If all `workers` are idle, returns a mark that a later call can be compared with.
    pub(crate) fn all_asleep(&self, workers: usize) -> Option<usize> {
        let mark = self.wakeups.load(Ordering::SeqCst);
        (self.count.load(Ordering::SeqCst) == workers).then_some(mark)
    }

    pub(crate) fn enter(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.wakeups.fetch_add(1, Ordering::SeqCst);
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// In a forked child: the caller is the only worker, and it is awake.
    pub(crate) fn forget(&self) {
        self.count.store(0, Ordering::Relaxed);
    }
}
