//! Tells a call that kept its thread waiting from one that took long for another reason: because
//! other processes had the CPU, or because the kernel computed.
//!
//! A call that waits is better made by a pool thread, because other fibers can then run meanwhile.
//! A call that computes needs a CPU on a pool thread, too. The hand-over adds to that and gains
//! something only if a CPU is idle, so such a call counts as slow only if it takes much longer.
//! (ext4 computes for 200 us for a new file after many were removed.)
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

/// While the ends of calls that are not watched are closer together than this, the clock is read
/// only once in [`UNREAD`] + 1 of them.
const CLOSE_NS: u64 = 16_000;
const UNREAD: u8 = 3;

/// A call that only computes is slow if it takes this many times as long as a slow wait.
const COMPUTING: u64 = 20;

/// What a thread's timed calls have in common.
pub struct Suspicion {
    /// How many of the next calls are watched.
    left: Cell<u8>,
    /// When the clock was last read at the end of a call that is not watched.
    last: Cell<Stopwatch>,
    /// How many such calls may end before it is read again.
    unread: Cell<u8>,
    /// Whether the last watched write was slow.
    slow_write: Cell<bool>,
}

impl Suspicion {
    pub const fn new() -> Self {
        Self {
            left: Cell::new(0),
            last: Cell::new(Stopwatch::LONG_AGO),
            unread: Cell::new(0),
            slow_write: Cell::new(false),
        }
    }

    /// Whether the next call is not watched, because no call took long lately.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        self.left.get() == 0
    }

    /// Whether the next write is likely to be quick: no call took long lately, or it was no write.
    #[inline(always)]
    pub fn expects_quick_write(&self) -> bool {
        self.is_quiet() || !self.slow_write.get()
    }

    /// Records whether a watched write was slow.
    #[inline]
    pub fn watched_write(&self, slow: bool) {
        self.slow_write.set(slow);
    }

    /// Ends a call that is not watched and whose beginning was not timed, which saves readings of
    /// the clock. Such a call is not slow; but if more than `nanos` nanoseconds have passed since
    /// the last reading, perhaps because the call took long, the next calls are watched.
    #[inline(always)]
    pub fn end_quiet_call(&self, nanos: u64) {
        match self.unread.get() {
            0 => self.read_clock(nanos),
            left => self.unread.set(left - 1),
        }
    }

    #[inline(always)]
    fn read_clock(&self, nanos: u64) {
        let now = Stopwatch::start();
        let last = self.last.replace(now);
        if last.surely_within(&now, CLOSE_NS) {
            self.unread.set(UNREAD);
        } else if last.had_exceeded(&now, nanos) {
            self.left.set(WATCHED);
        }
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
        (took_long || self.before.is_some()) && self.judge(took_long, nanos)
    }

    #[cold]
    #[inline(never)]
    fn judge(self, took_long: bool, nanos: u64) -> bool {
        let left = &self.suspicion.left;
        let is_slow = took_long
            && self
                .before
                .is_some_and(|before| delayed_others(before, &self.watch, nanos));
        if is_slow || took_long && self.before.is_none() {
            left.set(WATCHED);
        } else {
            left.set(left.get().saturating_sub(1));
        }
        is_slow
    }
}

/// What a thread did while a call took long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spent {
    Waiting,
    Computing,
    /// It was ready to compute, and others had the CPU.
    Preempted,
}

/// What a thread did between these counts. If it was also preempted in a call that waited, the wait
/// is what counts.
fn spent(before: Switches, now: Switches) -> Spent {
    if now.has_waited_since(before) {
        Spent::Waiting
    } else if now.involuntary == before.involuntary {
        Spent::Computing
    } else {
        Spent::Preempted
    }
}

/// Whether a call that took more than `nanos` nanoseconds, and began with the counts `before`,
/// delayed the other fibers of its thread for reasons of its own.
fn delayed_others(before: Switches, watch: &Stopwatch, nanos: u64) -> bool {
    match spent(before, sys::context_switches()) {
        Spent::Waiting => true,
        Spent::Computing => watch.exceeds(nanos.saturating_mul(COMPUTING)),
        Spent::Preempted => false,
    }
}

/// Runs `function` on a thread whose time is not precious, a pool thread. Returns its result and
/// whether it took more than `limit(result)` nanoseconds for reasons of its own.
pub fn watch<R>(function: impl FnOnce() -> R, limit: impl FnOnce(&R) -> u64) -> (R, bool) {
    let (before, watch) = (sys::context_switches(), Stopwatch::start());
    let result = function();
    let nanos = limit(&result);
    let is_slow = watch.exceeds(nanos) && delayed_others(before, &watch, nanos);
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
    fn writes_are_expected_to_be_slow_only_after_a_slow_write() {
        sys::stopwatch::calibrate();
        let suspicion = Suspicion::new();
        is_slow(&suspicion, block);
        assert!(!suspicion.is_quiet() && suspicion.expects_quick_write());
        suspicion.watched_write(true);
        assert!(!suspicion.expects_quick_write());
        suspicion.left.set(0);
        assert!(suspicion.expects_quick_write());
    }

    #[test]
    fn a_wait_counts_and_what_others_took_does_not() {
        let counts = |voluntary, involuntary| Switches {
            voluntary,
            involuntary,
        };
        assert_eq!(spent(counts(7, 3), counts(7, 4)), Spent::Preempted);
        assert_eq!(spent(counts(7, 3), counts(8, 4)), Spent::Waiting);
        assert_eq!(spent(counts(7, 3), counts(7, 3)), Spent::Computing);
    }

    #[test]
    fn a_wait_is_noticed_though_the_clock_is_read_once_in_several_calls() {
        sys::stopwatch::calibrate();
        let suspicion = Suspicion::new();
        suspicion.last.set(Stopwatch::start());
        for close in [false, true] {
            suspicion.unread.set(if close { UNREAD } else { 0 });
            block();
            for _ in 0..=UNREAD {
                suspicion.end_quiet_call(LIMIT);
            }
            assert!(!suspicion.is_quiet());
            suspicion.left.set(0);
        }
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
