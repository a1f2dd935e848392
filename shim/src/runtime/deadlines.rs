//! The deadlines of parked fibers, one set per thread.
//!
//! Invariant: an operation with a deadline is in the set, under its own token, from before its
//! fiber parks until the operation completes.

use crate::engine::Wait;
use crate::host::Token;
use std::collections::BTreeSet;

/// A time of CLOCK_MONOTONIC in nanoseconds; [`NEVER`] means no deadline.
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

    /// Removes and returns the first deadline that has passed at `now`.
    pub fn pop(&mut self, now: Deadline) -> Option<Token> {
        let first = self
            .0
            .first()
            .copied()
            .filter(|(deadline, _)| *deadline <= now)?;
        self.0.remove(&first);
        Some(first.1)
    }

    /// `wait`, but not past the first deadline.
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
