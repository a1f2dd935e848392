//! Plain calls for reads that are surely cached: the thread's streak of hits, and the time of each
//! plain call, which ends the streak if it waited.

use policy::{SLOW_READ_NS, Streak};
use std::cell::Cell;
use sys::Switches;
use sys::stopwatch::Stopwatch;

/// What a thread knows about its reads of files.
pub struct CachedReads {
    streak: Cell<Streak>,
    /// The thread's context switches when the streak became long, or a plain call last took long.
    switches: Cell<Switches>,
}

impl CachedReads {
    pub const fn new() -> Self {
        Self {
            streak: Cell::new(Streak::NONE),
            switches: Cell::new(Switches::NONE),
        }
    }

    #[inline(always)]
    pub fn streak(&self) -> Streak {
        self.streak.get()
    }

    /// An attempt to read from a file hit.
    #[inline(always)]
    pub fn hit(&self) {
        let streak = self.streak.get();
        if !streak.is_long() {
            self.streak.set(streak.hit());
            if streak.hit().is_long() {
                self.begin();
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn begin(&self) {
        self.switches.set(sys::context_switches());
    }

    /// An attempt to read from a file missed.
    pub fn missed(&self) {
        self.streak.set(self.streak.get().missed());
    }

    /// Ends a plain call that began when `watch` was started. Returns whether it probably waited.
    #[inline(always)]
    pub fn end(&self, watch: Stopwatch) -> bool {
        watch.exceeds(SLOW_READ_NS) && self.has_waited(watch)
    }

    /// A thread that did not wait at all since the streak became long was preempted instead. One
    /// that has also slept elsewhere may have waited in this call.
    #[cold]
    #[inline(never)]
    fn has_waited(&self, watch: Stopwatch) -> bool {
        let now = sys::context_switches();
        let waited = now.has_waited_since(self.switches.replace(now));
        if waited {
            self.streak.set(self.streak.get().waited(watch.nanos()));
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long() -> CachedReads {
        sys::stopwatch::calibrate();
        let reads = CachedReads::new();
        while !reads.streak().is_long() {
            reads.hit();
        }
        reads
    }

    #[test]
    fn a_read_that_waits_ends_the_streak() {
        let (reads, watch) = (long(), Stopwatch::start());
        let time = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 2 * SLOW_READ_NS as i64,
        };
        rustix::event::poll(&mut [], Some(&time)).expect("poll");
        assert!(reads.end(watch) && !reads.streak().is_long());
    }

    #[test]
    fn one_that_computes_or_is_quick_does_not() {
        let reads = long();
        // A thread that never waits: its count stays as it is.
        let (watch, begin) = (Stopwatch::start(), sys::now());
        while sys::now() - begin < 2 * SLOW_READ_NS {}
        reads.begin();
        assert!(!reads.end(watch) && !reads.end(Stopwatch::start()));
        assert!(reads.streak().is_long());
        reads.missed();
        assert!(!reads.streak().is_long());
    }
}
