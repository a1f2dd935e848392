//! Decides how many fresh fibers an idle worker may steal from another worker: at most enough to
//! even out the numbers of fibers that both have started recently.
//!
//! A fiber stays for life on the worker where it starts, and a worker whose fibers all wait is idle
//! only until they wake. If an idle worker stole every fiber it found, it would get all fibers of a
//! burst whenever the other worker is delayed for a moment, because that worker sets up its I/O or
//! the kernel runs another thread on its CPU. After that, one CPU would do the work of two for as
//! long as these fibers live.
//!
//! "Recently" means since the mark before the last one. Marks are at least [`LATELY`] apart. Older
//! fibers may wait forever and do not count. A worker that was refused sets a mark and checks again
//! after that time, at most twice; then it steals half, no matter how many fibers it already has.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::clock::Instant;
use crate::worker::state::Worker;

/// The minimum time between marks, in nanoseconds. It is longer than a thread waits for its CPU on
/// a machine that is not overloaded.
pub(crate) const LATELY: u64 = 5_000_000;

/// The numbers of fibers on a worker, readable by other workers. They are hints: nothing breaks if
/// they are slightly wrong.
#[derive(Default)]
pub(crate) struct Share {
    /// Fibers that were started on this worker and have not ended. Only the worker's own thread
    /// writes it.
    started: AtomicUsize,
    /// The value of `started` at the last mark, and below at the mark before it.
    at_mark: AtomicUsize,
    before: AtomicUsize,
}

impl Share {
    /// Returns the number of started fibers that have not ended.
    #[inline(always)]
    pub(crate) fn started(&self) -> usize {
        self.started.load(Relaxed)
    }

    /// Sets the number of started fibers. Call it on the worker's own thread.
    #[inline(always)]
    pub(crate) fn set_started(&self, n: usize) {
        self.started.store(n, Relaxed);
    }

    fn lately(&self) -> usize {
        self.started().saturating_sub(self.before.load(Relaxed))
    }

    fn mark(&self) {
        let last = self.at_mark.swap(self.started(), Relaxed);
        self.before.store(last, Relaxed);
    }
}

/// The time of the last mark.
#[derive(Default)]
pub(crate) struct Marks(AtomicU64);

impl Marks {
    /// Sets a mark for all `workers` if enough time has passed. Returns whether this or another
    /// thread set one.
    fn advance(&self, workers: &[Worker], now: Instant) -> bool {
        let last = self.0.load(Relaxed);
        if now.saturating_sub(last) < LATELY {
            return false;
        }
        if self.0.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            workers.iter().for_each(|w| w.remote.share.mark());
        }
        true
    }

    /// Returns how many of the fresh fibers of `owner` the idle worker `idle` may take. Reads the
    /// clock only if there are fresh fibers and it may take none of them.
    pub(crate) fn due(&self, workers: &[Worker], idle: &Worker, owner: &Worker) -> usize {
        let fresh = owner.remote.stealer.as_ref().map_or(0, |fresh| fresh.len());
        let due = || {
            evens_out(
                idle.remote.share.lately(),
                owner.remote.share.lately(),
                fresh,
            )
        };
        match due() {
            0 if fresh > 0 && self.advance(workers, crate::clock::now()) => due(),
            due => due,
        }
    }
}

/// Returns how many of `fresh` fibers to move so that the started fibers of `idle` and `owner` even
/// out. This is at most half of them, because their owner is about to start some as well.
fn evens_out(idle: usize, owner: usize, fresh: usize) -> usize {
    let more = (owner + fresh).saturating_sub(idle);
    more.min(fresh).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_burst_is_for_the_idle_worker_and_no_more() {
        assert_eq!(
            (evens_out(0, 1, 1), evens_out(0, 1, 64), evens_out(0, 0, 63)),
            (1, 32, 32)
        );
        assert_eq!((evens_out(32, 1, 31), evens_out(32, 1, 30)), (0, 0));
        assert_eq!(
            (
                evens_out(10, 1, 31),
                evens_out(31, 1, 31),
                evens_out(31, 1, 1)
            ),
            (11, 1, 0)
        );
    }

    #[test]
    fn what_was_started_before_the_mark_before_the_last_counts_no_more() {
        let share = Share::default();
        share.set_started(32);
        assert_eq!(share.lately(), 32);
        share.mark();
        assert_eq!(share.lately(), 32);
        share.set_started(40);
        share.mark();
        assert_eq!(share.lately(), 8);
        share.set_started(20);
        assert_eq!(share.lately(), 0);
    }
}
