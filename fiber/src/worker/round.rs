//! A worker's turns: a turn is one switch to a fiber, and a round is a number of turns.
//!
//! One counter counts the turns and determines the end of the round. It also serves another thread:
//! if that thread sees no change for a long time, a fiber has not yielded (the shim's
//! AIOSHIM_STALL). Therefore the counter and the pointer to the running fiber are readable by other
//! threads. Only the worker writes them, as cheaply as plain memory.

use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

pub(crate) struct Turns {
    count: AtomicU32,
    /// The value of the counter at which the round is over.
    end: Cell<u32>,
}

impl Turns {
    pub(crate) const fn new() -> Turns {
        Turns {
            count: AtomicU32::new(0),
            end: Cell::new(0),
        }
    }

    /// Returns the number of turns left in this round.
    #[inline(always)]
    pub(crate) fn left(&self) -> u32 {
        self.end
            .get()
            .wrapping_sub(self.count.load(Ordering::Relaxed))
    }

    /// Counts one turn.
    #[inline(always)]
    pub(crate) fn take(&self) {
        self.count.store(
            self.count.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Lets the round end after `n` more turns.
    #[inline(always)]
    pub(crate) fn set_left(&self, n: u32) {
        self.end
            .set(self.count.load(Ordering::Relaxed).wrapping_add(n));
    }

    /// Returns the address of the counter, for other threads to read.
    pub(crate) fn count(&self) -> *const u32 {
        self.count.as_ptr()
    }
}

/// A pointer that other threads may read.
pub(crate) struct Shown<T>(AtomicPtr<T>);

impl<T> Shown<T> {
    pub(crate) const fn new(to: *mut T) -> Shown<T> {
        Shown(AtomicPtr::new(to))
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
    pub(crate) fn at(&self) -> *const *mut T {
        self.0.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_where_the_count_overflows_too() {
        let turns = Turns::new();
        turns.count.store(u32::MAX - 1, Ordering::Relaxed);
        turns.set_left(3);
        for left in (0..3).rev() {
            turns.take();
            assert_eq!(turns.left(), left);
        }
        turns.set_left(0);
        assert_eq!(turns.left(), 0);
    }
}
