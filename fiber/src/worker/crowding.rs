//! Decides whether idle workers are left asleep although there are new fibers.
//!
//! A new fiber wakes an idle worker, which takes it. That gains time if a CPU is free for the idle
//! worker, or if the fiber lives long: it then stays there, and both workers have work for as long
//! as it lives. It loses time if other threads already use all CPUs and the fibers are short. (A
//! web server with a fiber for each request answers 0.77 of the requests beside its client that it
//! answers if its second worker sleeps on.)
//!
//! A worker that is preempted again and again shares its CPU with others. If the number of fibers
//! does not grow at the same time, the new ones are short. Idle workers are then left alone for
//! [`PAUSE`]. They look for work every few milliseconds nevertheless, because the fiber that
//! creates others may run for long.
//!
//! Invariant: a thread that creates a fiber queues it before it looks whether there is a pause, and
//! an idle worker that is to sleep without a limit looks whether there is a pause before it looks
//! for fibers a last time. Therefore neither misses the other when a pause ends. A thread that
//! begins a pause ends all sleeps.

use crate::clock::Instant;
use core::cell::Cell;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// A worker judges once in so many fibers that it creates.
const CREATED: u32 = 64;
/// The fibers are short if their number grew by less than this meanwhile.
const GROWTH: usize = 16;
/// The CPUs are crowded if the worker was preempted this often, and once in two milliseconds.
const PREEMPTED: u64 = 2;
const PER_PREEMPTION: u64 = 2_000_000;
/// How long idle workers are left asleep, in nanoseconds.
const PAUSE: u64 = 250_000_000;
/// An idle worker is woken nevertheless if so many fibers have not started.
pub(crate) const BACKLOG: usize = 32;

/// Whether idle workers are left asleep: a property of the runtime.
#[derive(Default)]
pub(crate) struct Crowding {
    /// When the pause ends; 0 if there is none.
    until: AtomicU64,
}

impl Crowding {
    /// Whether new fibers wake nobody.
    #[inline(always)]
    pub(crate) fn pauses(&self) -> bool {
        self.until.load(Relaxed) != 0
    }

    /// Begins a pause at `now`, or makes it longer. Returns whether there was none.
    pub(crate) fn begin(&self, now: Instant) -> bool {
        self.until.swap(now.saturating_add(PAUSE), SeqCst) == 0
    }

    /// Ends the pause if it is over at `now`.
    pub(crate) fn renew(&self, now: Instant) {
        let until = self.until.load(Relaxed);
        if until != 0 && until <= now {
            // If another thread has made it longer, it goes on.
            let _ = self.until.compare_exchange(until, 0, SeqCst, Relaxed);
        }
    }
}

/// What a worker remembers of its last judgement.
#[derive(Default)]
pub(crate) struct Creations {
    count: Cell<u32>,
    /// The time, the fibers of the runtime, and the preemptions of the worker's thread by then.
    at: Cell<Instant>,
    live: Cell<usize>,
    preemptions: Cell<u64>,
}

impl Creations {
    /// Counts a new fiber. Returns whether it is time to judge.
    #[inline(always)]
    pub(crate) fn count(&self) -> bool {
        self.count.set(self.count.get() + 1);
        self.count.get() == CREATED
    }

    /// Returns whether short fibers of this worker were created on crowded CPUs, since the last
    /// judgement. Takes the present time, fibers and preemptions.
    pub(crate) fn judge(&self, now: Instant, live: usize, preemptions: u64) -> bool {
        self.count.set(0);
        let time = now.saturating_sub(self.at.replace(now));
        let growth = live.saturating_sub(self.live.replace(live));
        let preempted = preemptions.saturating_sub(self.preemptions.replace(preemptions));
        growth < GROWTH && preempted >= PREEMPTED.max(time / PER_PREEMPTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_judges_once_in_a_while() {
        let creations = Creations::default();
        assert!(!(1..CREATED).any(|_| creations.count()));
        assert!(creations.count());
        creations.judge(1, 0, 0);
        assert!(!creations.count());
    }

    #[test]
    fn short_fibers_on_crowded_cpus_begin_a_pause() {
        let judge = |time: Instant, growth: usize, preempted: u64| {
            let creations = Creations::default();
            creations.judge(1_000, 10, 5);
            creations.judge(1_000 + time, 10 + growth, 5 + preempted)
        };
        assert!(judge(3_000_000, 0, 2));
        assert!(!judge(3_000_000, 0, 1));
        assert!(!judge(3_000_000, GROWTH, 2));
        assert!(!judge(8_000_000, 0, 3));
        assert!(judge(8_000_000, 0, 4));
    }

    #[test]
    fn a_pause_ends() {
        let crowding = Crowding::default();
        assert!(!crowding.pauses());
        crowding.begin(5);
        crowding.renew(5 + PAUSE - 1);
        assert!(crowding.pauses());
        crowding.renew(5 + PAUSE);
        assert!(!crowding.pauses());
    }
}
