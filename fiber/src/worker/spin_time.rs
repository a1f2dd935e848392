//! How long a worker spins before it sleeps, learned from its recent waits.

use core::cell::Cell;

/// Maximum time, in nanoseconds, that a worker spins.
const MAX_SPIN: u64 = 20_000;
/// A shorter spin is not worth reading the clock.
const MIN_SPIN: u64 = 1_000;

/// How long a worker spins before its next sleep.
pub(crate) struct SpinTime(Cell<u64>);

impl SpinTime {
    pub(crate) const fn new() -> SpinTime {
        SpinTime(Cell::new(MAX_SPIN))
    }

    /// Returns the time in nanoseconds, or `None` if spinning is not worth it.
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.get()).filter(|&time| time >= MIN_SPIN)
    }

    /// Records that a wait took `waited` nanoseconds.
    pub(crate) fn record(&self, waited: u64) {
        self.0.set(if waited <= MAX_SPIN {
            MAX_SPIN
        } else {
            self.0.get() / 2
        });
    }
}
