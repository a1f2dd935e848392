//! Deadlines of parked fibers, a set per thread: what must end by when.
//!
//! Invariant: a flight with a deadline is in the set from before its fiber parks until it is
//! completed, under its own token.

use crate::engine::{Token, Wait};
use std::collections::BTreeSet;

/// Nanoseconds of CLOCK_MONOTONIC; [`NEVER`] is none.
pub type Deadline = u64;

pub const NEVER: Deadline = u64::MAX;

#[derive(Default)]
pub struct Deadlines(BTreeSet<(Deadline, Token)>);

impl Deadlines {
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, deadline: Deadline, token: Token) {
        self.0.insert((deadline, token));
    }

    pub fn remove(&mut self, deadline: Deadline, token: Token) {
        self.0.remove(&(deadline, token));
    }

    /// Takes out the first one that is over at `now`.
    pub fn pop(&mut self, now: Deadline) -> Option<Token> {
        let first = self
            .0
            .first()
            .copied()
            .filter(|(deadline, _)| *deadline <= now)?;
        self.0.remove(&first);
        Some(first.1)
    }

    /// `wait`, but no longer than to the first deadline.
    pub fn shorten(&self, wait: Wait, now: impl FnOnce() -> Deadline) -> Wait {
        let Some((first, _)) = self.0.first() else {
            return wait;
        };
        if matches!(wait, Wait::No) {
            return wait;
        }
        let left = first.saturating_sub(now());
        match wait {
            _ if left == 0 => Wait::No,
            Wait::Nanos(nanos) => Wait::Nanos(nanos.min(left)),
            _ => Wait::Nanos(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_comes_out_in_order_and_a_wait_ends_with_the_first() {
        let mut deadlines = Deadlines::new();
        assert!(matches!(
            deadlines.shorten(Wait::Forever, || 0),
            Wait::Forever
        ));
        deadlines.add(300, 1);
        deadlines.add(100, 2);
        deadlines.add(200, 3);
        deadlines.remove(200, 3);
        assert!(matches!(
            deadlines.shorten(Wait::Forever, || 40),
            Wait::Nanos(60)
        ));
        assert!(matches!(
            deadlines.shorten(Wait::Nanos(10), || 40),
            Wait::Nanos(10)
        ));
        assert!(matches!(deadlines.shorten(Wait::Forever, || 100), Wait::No));
        assert_eq!(deadlines.pop(99), None);
        assert_eq!(
            (deadlines.pop(500), deadlines.pop(500), deadlines.pop(500)),
            (Some(2), Some(1), None)
        );
        assert!(deadlines.is_empty());
    }
}
