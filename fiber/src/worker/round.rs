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

/// The last yields of a worker's fibers: they tell whether the fibers that can run are all in the
/// middle of their work, as opposed to fibers for which an event has just happened.
#[derive(Default)]
pub(crate) struct Yields {
    /// How many turns in a row ended by a yield, while no fiber was added to the ready ones.
    in_a_row: Cell<usize>,
    /// The turn that the last of them ended, and how many other fibers were ready then.
    turn: Cell<u32>,
    ready: Cell<usize>,
}

impl Yields {
    /// Notes that the running fiber ends its turn by a yield while `ready` others can run.
    pub(crate) fn note(&self, round: &Round, ready: usize) {
        let in_a_row = if self.continues(round, ready) {
            self.in_a_row.get() + 1
        } else {
            1
        };
        self.in_a_row.set(in_a_row);
        self.turn.set(round.count.load(Ordering::Relaxed));
        self.ready.set(ready);
    }

    /// Returns whether the turn before the present one ended by a yield, and no fiber was added
    /// since.
    fn continues(&self, round: &Round, ready: usize) -> bool {
        let turn = round.count.load(Ordering::Relaxed);
        turn == self.turn.get().wrapping_add(1) && ready == self.ready.get()
    }

    /// Returns whether each of the `ready` fibers ended its last turn by a yield.
    pub(crate) fn include_all(&self, round: &Round, ready: usize) -> bool {
        self.in_a_row.get() >= ready && self.continues(round, ready)
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
    fn a_fiber_that_was_made_ready_is_not_among_those_that_yielded() {
        let (round, yields) = (Round::new(), Yields::default());
        for turn in 1..=3 {
            round.take_turn();
            assert!(!yields.include_all(&round, 3), "turn {turn}");
            yields.note(&round, 3);
        }
        round.take_turn();
        assert!(yields.include_all(&round, 3));
        assert!(!yields.include_all(&round, 4), "one was added");
        // It parks, so its turn does not end by a yield.
        round.take_turn();
        assert!(!yields.include_all(&round, 3));
        yields.note(&round, 3);
        round.take_turn();
        assert!(!yields.include_all(&round, 3));
    }

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
