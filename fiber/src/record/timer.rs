//! The timers of a worker.
//!
//! The timers are a heap with four children per node, ordered by deadline. Each fiber knows its
//! position in the heap, so a timer can be removed without a search. A fiber has at most one timer.
//!
//! Invariant: `heap[i].fiber.timer == i` for every entry, and [`NO_TIMER`] for every fiber that has
//! none.

use super::fiber::{Fiber, NO_TIMER};
use crate::clock::{Instant, NEVER};

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
    fn timers_expire_in_order_despite_cancellations() {
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
}
