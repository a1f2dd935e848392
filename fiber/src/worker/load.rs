//! Decides how many unstarted fibers an idle worker may steal from another worker: at most enough
//! to even out the numbers of fibers that both have started recently.
//!
//! A fiber stays for life on the worker where it starts, and a worker whose fibers all wait is idle
//! only until they wake. If an idle worker stole every fiber it found, it would get all fibers of a
//! burst whenever the other worker is delayed for a moment, because that worker sets up its I/O or
//! the kernel runs another thread on its CPU. After that, one CPU would do the work of two for as
//! long as these fibers live.
//!
//! "Recently" means since the sample before the last one. Samples are at least [`SAMPLE_INTERVAL`]
//! apart. Older fibers may wait forever and do not count. A worker that was refused takes a sample
//! and checks again after that time, at most twice; then it steals half, no matter how many fibers
//! it already has.

use crate::clock::Instant;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The minimum time between samples, in nanoseconds. It is longer than a thread waits for its CPU
/// on a machine that is not overloaded.
pub(crate) const SAMPLE_INTERVAL: u64 = 5_000_000;

/// The numbers of fibers on a worker, readable by other workers. They are hints: nothing breaks if
/// they are slightly wrong.
#[derive(Default)]
pub(crate) struct Load {
    /// Fibers that were started on this worker and have not ended. Only the worker's own thread
    /// writes it.
    started: AtomicUsize,
    /// The value of `started` at the last sample, and below at the sample before it.
    at_sample: AtomicUsize,
    before: AtomicUsize,
}

impl Load {
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

    fn recently_started(&self) -> usize {
        self.started().saturating_sub(self.before.load(Relaxed))
    }

    pub(crate) fn sample(&self) {
        let last = self.at_sample.swap(self.started(), Relaxed);
        self.before.store(last, Relaxed);
    }
}

/// When the loads of a runtime were last sampled.
#[derive(Default)]
pub(crate) struct LastSample(AtomicU64);

impl LastSample {
    /// Calls `sample` if enough time has passed. Returns whether this or another thread took a
    /// sample.
    pub(crate) fn renew(&self, now: Instant, sample: impl FnOnce()) -> bool {
        let last = self.0.load(Relaxed);
        if now.saturating_sub(last) < SAMPLE_INTERVAL {
            return false;
        }
        if self.0.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            sample();
        }
        true
    }
}

/// Returns how many of the `unstarted` fibers of `owner` the idle worker `idle` may take.
pub(crate) fn steal_quota(idle: &Load, owner: &Load, unstarted: usize) -> usize {
    evening_share(idle.recently_started(), owner.recently_started(), unstarted)
}

/// Returns how many of `unstarted` fibers to move so that the started fibers of `idle` and `owner`
/// even out. This is at most half of them, because their owner is about to start some as well.
fn evening_share(idle: usize, owner: usize, unstarted: usize) -> usize {
    let more = (owner + unstarted).saturating_sub(idle);
    more.min(unstarted).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_worker_gets_at_most_half_of_a_burst() {
        assert_eq!(
            (
                evening_share(0, 1, 1),
                evening_share(0, 1, 64),
                evening_share(0, 0, 63)
            ),
            (1, 32, 32)
        );
        assert_eq!((evening_share(32, 1, 31), evening_share(32, 1, 30)), (0, 0));
        assert_eq!(
            (
                evening_share(10, 1, 31),
                evening_share(31, 1, 31),
                evening_share(31, 1, 1)
            ),
            (11, 1, 0)
        );
    }

    #[test]
    fn fibers_older_than_two_samples_do_not_count() {
        let load = Load::default();
        load.set_started(32);
        assert_eq!(load.recently_started(), 32);
        load.sample();
        assert_eq!(load.recently_started(), 32);
        load.set_started(40);
        load.sample();
        assert_eq!(load.recently_started(), 8);
        load.set_started(20);
        assert_eq!(load.recently_started(), 0);
    }
}
