//! Deadlines: a worker's timers, and their clock.
//!
//! The timers are a heap with four children per node, ordered by deadline. Each fiber knows its
//! position in the heap, so a timer can be removed without a search. A fiber has at most one timer.
//!
//! Invariant: `heap[i].fiber.timer == i` for every entry, and [`NO_TIMER`] for every fiber that has
//! none.

use crate::errno::Errno;
use crate::record::fiber::{Fiber, NO_TIMER};

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) type Instant = u64;

/// A deadline that never comes.
pub(crate) const NEVER: Instant = u64::MAX;

/// Returns the current time.
pub(crate) fn now() -> Instant {
    read(libc::CLOCK_MONOTONIC)
}

/// Returns whether `at` comes within about 5 ms, which is the time that a wait for a disk may take.
/// Uses a cheap clock that advances every few milliseconds.
pub(crate) fn is_soon(at: Instant) -> bool {
    at != NEVER && at < read(libc::CLOCK_MONOTONIC_COARSE).saturating_add(DISK)
}

const DISK: u64 = 5 * NS_PER_MS;
const NS_PER_MS: u64 = 1_000_000;

fn read(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to the local variable; the two clocks used here exist on every
    // kernel.
    unsafe { libc::clock_gettime(clock, &mut t) };
    (t.tv_sec as u64)
        .saturating_mul(NS_PER_S)
        .saturating_add(t.tv_nsec as u64)
}

const NS_PER_S: u64 = 1_000_000_000;

/// Converts `abstime` on `clock` to an [`Instant`]. A wall-clock time is converted when the wait
/// begins, so setting the clock later does not move the deadline. Returns `EINVAL` for another
/// clock or if the nanoseconds are out of range.
pub(crate) fn deadline(clock: libc::clockid_t, abstime: &libc::timespec) -> Result<Instant, Errno> {
    if !(0..NS_PER_S as i64).contains(&abstime.tv_nsec) {
        return Err(Errno::EINVAL);
    }
    let at = u64::try_from(abstime.tv_sec)
        .unwrap_or(0)
        .saturating_mul(NS_PER_S)
        .saturating_add(abstime.tv_nsec as u64);
    match clock {
        libc::CLOCK_MONOTONIC => Ok(at.min(NEVER - 1)),
        libc::CLOCK_REALTIME => Ok(now()
            .saturating_add(at.saturating_sub(read(clock)))
            .min(NEVER - 1)),
        _ => Err(Errno::EINVAL),
    }
}

#[derive(Clone, Copy)]
struct Entry {
    at: Instant,
    fiber: *const Fiber,
}

const CHILDREN: usize = 4;

/// The timers of one worker.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Vec<Entry>,
}

impl Timers {
    /// Returns when the first timer expires, or [`NEVER`] if there is none.
    pub(crate) fn first(&self) -> Instant {
        self.heap.first().map_or(NEVER, |e| e.at)
    }

    /// Sets the timer of `fiber`, which must have none.
    pub(crate) fn set(&mut self, fiber: &Fiber, at: Instant) {
        debug_assert_eq!(fiber.timer.get(), NO_TIMER);
        self.heap.push(Entry { at, fiber });
        self.up(self.heap.len() - 1);
    }

    /// Removes the timer of `fiber`, if it has one.
    pub(crate) fn cancel(&mut self, fiber: &Fiber) {
        let i = fiber.timer.replace(NO_TIMER);
        if i != NO_TIMER {
            self.remove(i as usize);
        }
    }

    /// Takes one fiber whose timer has expired by `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<*const Fiber> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        // SAFETY: records are never unmapped, and this worker owns the cells of its fibers.
        unsafe { (*first.fiber).timer.set(NO_TIMER) };
        self.remove(0);
        Some(first.fiber)
    }

    /// In a forked child: drops all timers.
    pub(crate) fn forget(&mut self) {
        self.heap.clear();
    }

    fn remove(&mut self, i: usize) {
        self.heap.swap_remove(i);
        if i < self.heap.len() {
            self.down(i);
            self.up(i);
        }
    }

    /// Moves the entry at `i` towards the root until its parent is not later.
    fn up(&mut self, mut i: usize) {
        let entry = self.heap[i];
        while i > 0 {
            let parent = (i - 1) / CHILDREN;
            if self.heap[parent].at <= entry.at {
                break;
            }
            self.place(i, self.heap[parent]);
            i = parent;
        }
        self.place(i, entry);
    }

    /// Moves the entry at `i` towards the leaves until its children are not earlier.
    fn down(&mut self, mut i: usize) {
        let entry = self.heap[i];
        loop {
            let first = i * CHILDREN + 1;
            let end = self.heap.len().min(first + CHILDREN);
            let Some(least) = (first..end).min_by_key(|&c| self.heap[c].at) else {
                break;
            };
            if entry.at <= self.heap[least].at {
                break;
            }
            self.place(i, self.heap[least]);
            i = least;
        }
        self.place(i, entry);
    }

    fn place(&mut self, i: usize, entry: Entry) {
        self.heap[i] = entry;
        // SAFETY: records are never unmapped, and this worker owns the cells of its fibers.
        unsafe { (*entry.fiber).timer.set(i as u32) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the heap with a sorted list, with cancellations in between.
    #[test]
    fn goes_off_in_order_whatever_is_cancelled() {
        let fibers: Vec<_> = (0..2000).map(|_| Fiber::free()).collect();
        let mut timers = Timers::default();
        let mut due = Vec::new();
        let mut seed = 1u64;
        for f in &fibers {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let at = seed >> 40;
            timers.set(f, at);
            due.push((at, f));
        }
        let mut i = 0;
        due.retain(|(_, f)| {
            i += 1;
            if i % 3 == 0 {
                timers.cancel(f);
                timers.cancel(f);
            }
            i % 3 != 0
        });
        due.sort_by_key(|(at, _)| *at);
        for (at, _) in &due {
            assert_eq!(timers.first(), *at);
            if *at > 0 {
                assert!(timers.pop(at - 1).is_none(), "it does not expire early");
            }
            assert!(timers.pop(*at).is_some());
        }
        assert_eq!(timers.first(), NEVER);
        assert!(fibers.iter().all(|f| f.timer.get() == NO_TIMER));
    }

    #[test]
    fn deadlines_are_checked_and_converted() {
        let t = |tv_sec, tv_nsec| libc::timespec { tv_sec, tv_nsec };
        assert_eq!(deadline(libc::CLOCK_MONOTONIC, &t(2, 5)), Ok(2_000_000_005));
        assert_eq!(deadline(libc::CLOCK_MONOTONIC, &t(-1, 0)), Ok(0));
        assert_eq!(
            deadline(libc::CLOCK_MONOTONIC, &t(i64::MAX, 0)),
            Ok(NEVER - 1)
        );
        assert_eq!(
            deadline(libc::CLOCK_MONOTONIC, &t(0, 1_000_000_000)),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            deadline(libc::CLOCK_MONOTONIC, &t(0, -1)),
            Err(Errno::EINVAL)
        );
        assert_eq!(deadline(libc::CLOCK_BOOTTIME, &t(0, 0)), Err(Errno::EINVAL));
        let before = now();
        assert!(deadline(libc::CLOCK_REALTIME, &t(0, 0)).unwrap() >= before);
    }
}
