//! A worker's turns: how often it passed to a fiber, and with which turn its round ends.
//!
//! One count serves both, and a third: another thread that sees it unchanged for long knows that a
//! fiber kept its turn (the shim's AIOSHIM_STALL). So it is shown to others, as is the fiber that
//! runs; they are written by the worker alone, as cheaply as plain memory.

use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

pub(crate) struct Turns {
    count: AtomicU32,
    /// The count at which the round is over.
    end: Cell<u32>,
}

impl Turns {
    pub(crate) const fn new() -> Turns {
        Turns {
            count: AtomicU32::new(0),
            end: Cell::new(0),
        }
    }

    /// How many are left in this round.
    #[inline(always)]
    pub(crate) fn left(&self) -> u32 {
        self.end
            .get()
            .wrapping_sub(self.count.load(Ordering::Relaxed))
    }

    /// A fiber takes its turn; one is left.
    #[inline(always)]
    pub(crate) fn take(&self) {
        self.count.store(
            self.count.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// The round ends with the `n`th turn from now.
    #[inline(always)]
    pub(crate) fn set_left(&self, n: u32) {
        self.end
            .set(self.count.load(Ordering::Relaxed).wrapping_add(n));
    }

    /// Where the count is, for others to look at.
    pub(crate) fn count(&self) -> *const u32 {
        self.count.as_ptr()
    }
}

/// A pointer that others may look at.
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

    /// Where it is.
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
