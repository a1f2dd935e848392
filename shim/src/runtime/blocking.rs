//! Tells a call that kept its thread busy or waiting from one that took long only because other
//! processes had the CPU.
//!
//! The kernel counts how often a thread was preempted, and how often it gave up its CPU to wait.
//! Reading the counts around each call would cost more than many calls. So calls are only timed
//! until one takes long; then the next ones are also watched. What is slow is thus noticed at its
//! second slow call.

use std::cell::Cell;
use sys::Switches;
use sys::stopwatch::Stopwatch;

/// How many calls are watched after one that took long.
const WATCHED: u8 = 8;

/// What a thread's timed calls have in common.
pub struct Suspicion {
    /// How many of the next calls are watched.
    left: Cell<u8>,
}

impl Suspicion {
    pub const fn new() -> Self {
        Self { left: Cell::new(0) }
    }

    /// Begins to time a call on the calling thread, which owns this suspicion.
    #[inline]
    pub fn start(&self) -> Timing<'_> {
        let before = (self.left.get() > 0).then(sys::context_switches);
        Timing {
            suspicion: self,
            before,
            watch: Stopwatch::start(),
        }
    }
}

/// A timed call.
pub struct Timing<'a> {
    suspicion: &'a Suspicion,
    /// The counts before the call, if it is watched.
    before: Option<Switches>,
    watch: Stopwatch,
}

impl Timing<'_> {
    /// Ends the timing. Returns whether the call, as far as that is known, delayed the thread for
    /// more than `nanos` nanoseconds.
    #[inline]
    pub fn was_slow(self, nanos: u64) -> bool {
        let took_long = self.watch.exceeds(nanos);
        (took_long || self.before.is_some()) && self.judge(took_long)
    }

    #[cold]
    #[inline(never)]
    fn judge(self, took_long: bool) -> bool {
        let left = &self.suspicion.left;
        let is_slow = took_long
            && self
                .before
                .is_some_and(|before| was_not_preempted(before, sys::context_switches()));
        if is_slow || took_long && self.before.is_none() {
            left.set(WATCHED);
        } else {
            left.set(left.get().saturating_sub(1));
        }
        is_slow
    }
}

/// Whether a call that took long waited or computed all the time between these counts. If the
/// thread was also preempted in a call that waited, the wait is what counts.
fn was_not_preempted(before: Switches, now: Switches) -> bool {
    now.voluntary > before.voluntary || now.involuntary == before.involuntary
}

/// Runs `function` on a thread whose time is not precious, a pool thread. Returns its result and
/// whether it took more than `limit(result)` nanoseconds for reasons of its own.
pub fn watch<R>(function: impl FnOnce() -> R, limit: impl FnOnce(&R) -> u64) -> (R, bool) {
    let (before, watch) = (sys::context_switches(), Stopwatch::start());
    let result = function();
    let is_slow =
        watch.exceeds(limit(&result)) && was_not_preempted(before, sys::context_switches());
    (result, is_slow)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 2_000_000;

    /// Waits until a poll that nothing ends is over.
    fn block() {
        let time = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 2 * LIMIT as i64,
        };
        rustix::event::poll(&mut [], Some(&time)).expect("poll");
    }

    fn is_slow(suspicion: &Suspicion, function: fn()) -> bool {
        let timing = suspicion.start();
        function();
        timing.was_slow(LIMIT)
    }

    #[test]
    fn the_second_call_that_waits_is_noticed_and_all_after_it() {
        sys::stopwatch::calibrate();
        let suspicion = Suspicion::new();
        assert!(!is_slow(&suspicion, block));
        assert!((0..4).all(|_| is_slow(&suspicion, block)));
        assert!(watch(block, |()| LIMIT).1);
    }

    #[test]
    fn a_preempted_call_is_not_slow_and_one_that_waited_is() {
        let counts = |voluntary, involuntary| Switches {
            voluntary,
            involuntary,
        };
        assert!(!was_not_preempted(counts(7, 3), counts(7, 4)));
        assert!(was_not_preempted(counts(7, 3), counts(8, 4)));
        assert!(was_not_preempted(counts(7, 3), counts(7, 3)));
    }

    #[test]
    fn suspicion_ends_after_some_quick_calls() {
        sys::stopwatch::calibrate();
        let suspicion = Suspicion::new();
        is_slow(&suspicion, block);
        for _ in 0..WATCHED {
            let quick = suspicion.start();
            assert!(!quick.was_slow(u64::MAX));
        }
        assert!(suspicion.start().before.is_none());
    }
}
