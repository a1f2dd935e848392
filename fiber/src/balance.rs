//! How many fresh fibers an idle worker may take from another: no more than even out what both have
//! started lately.
//!
//! A fiber stays where it starts, for life, and a worker whose fibers all wait is idle only until
//! they wake. One that took whatever it finds would end up with all fibers of a burst when the
//! other worker is held up for a moment, because it sets up its I/O or the kernel runs another
//! thread on its CPU; and then one CPU does the work of two for as long as they live.
//!
//! "Lately" is since the mark before the last, and marks are [`LATELY`] apart at least: fibers that
//! have been around for longer may well wait for ever, and do not count. The one who is refused
//! makes them, and looks again when that time has passed, twice at most: then it takes its half,
//! whatever else it has.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::timer::Instant;
use crate::worker::Worker;

/// Nanoseconds; longer than the kernel lets a thread wait for its CPU on a machine that is not
/// overloaded.
pub(crate) const LATELY: u64 = 5_000_000;

/// The fibers a worker has, for others to see. Hints: nothing breaks when they are a little off.
#[derive(Default)]
pub(crate) struct Share {
    /// Started here and not ended. Written by the worker's own thread alone.
    started: AtomicUsize,
    /// What that was at the last mark, and at the one before.
    at_mark: AtomicUsize,
    before: AtomicUsize,
}

impl Share {
    /// Started fibers that have not ended.
    #[inline(always)]
    pub(crate) fn started(&self) -> usize {
        self.started.load(Relaxed)
    }

    /// On the worker's own thread.
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

/// When the last mark was.
#[derive(Default)]
pub(crate) struct Marks(AtomicU64);

impl Marks {
    /// Marks the state of `workers` if it is time to; whether somebody did.
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

    /// How many of the fresh fibers of `owner` are for `idle`, a worker that has nothing to run.
    /// The clock is only read where there are some and none is.
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
            0 if fresh > 0 && self.advance(workers, crate::timer::now()) => due(),
            due => due,
        }
    }
}

/// How many of `fresh` fibers even out `idle` and `owner`, started ones: at most half of them, for
/// their owner is about to start them, too.
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
