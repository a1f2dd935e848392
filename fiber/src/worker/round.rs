//! A worker's turns: a turn is one switch to a fiber, and a round is a number of turns.
//!
//! One counter counts the turns and determines the end of the round. It also serves another thread:
//! if that thread sees no change for a long time, a fiber has not yielded (the shim's
//! AIOSHIM_STALL). Therefore the counter and the pointer to the running fiber are readable by other
//! threads. Only the worker writes them, as cheaply as plain memory.

use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The current round of a worker.
pub(crate) struct Round {
    /// The number of turns so far.
    count: AtomicU32,
    /// The value of the counter at which the round is over.
    end: Cell<u32>,
}

impl Round {
    pub(crate) const fn new() -> Round {
        Round {
            count: AtomicU32::new(0),
            end: Cell::new(0),
        }
    }

    /// Returns the number of turns left in this round.
    #[inline(always)]
    pub(crate) fn turns_left(&self) -> u32 {
        self.end
            .get()
            .wrapping_sub(self.count.load(Ordering::Relaxed))
    }

    /// Counts one turn.
    #[inline(always)]
    pub(crate) fn take_turn(&self) {
        self.count.store(
            self.count.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Lets the round end after `n` more turns.
    #[inline(always)]
    pub(crate) fn set_turns_left(&self, n: u32) {
        self.end
            .set(self.count.load(Ordering::Relaxed).wrapping_add(n));
    }

    /// Returns the address of the counter, for other threads to read.
    pub(crate) fn count_address(&self) -> *const u32 {
        self.count.as_ptr()
    }
}

/// A pointer that other threads may read.
pub(crate) struct Published<T>(AtomicPtr<T>);

impl<T> Published<T> {
    pub(crate) const fn new(to: *mut T) -> Published<T> {
        Published(AtomicPtr::new(to))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> *mut T {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, to: *mut T) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// Returns the address of the pointer.
    pub(crate) fn address(&self) -> *const *mut T {
        self.0.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_may_end_after_the_counter_overflows() {
        let round = Round::new();
        round.count.store(u32::MAX - 1, Ordering::Relaxed);
        round.set_turns_left(3);
        for left in (0..3).rev() {
            round.take_turn();
            assert_eq!(round.turns_left(), left);
        }
        round.set_turns_left(0);
        assert_eq!(round.turns_left(), 0);
    }
}
