//! The scheduling quantum: how many calls a fiber makes before others run.

use policy::INLINE_BUDGET;
use std::cell::Cell;

/// How much longer a fiber that accepts connections may run.
const ACCEPTING_NS: u64 = 1_000_000;

/// The quantum of a thread's running fiber.
pub struct Quantum {
    /// Calls left before the fiber lets others run.
    budget: Cell<u32>,
    /// When the fiber first exhausted that budget since others ran, if it did.
    exhausted_at: Cell<Option<u64>>,
    /// Immediate calls left before the next cancellation check.
    unchecked: Cell<u32>,
}

impl Quantum {
    pub const fn new() -> Self {
        Self {
            budget: Cell::new(INLINE_BUDGET),
            exhausted_at: Cell::new(None),
            unchecked: Cell::new(INLINE_BUDGET),
        }
    }

    /// Counts one more call of the running fiber. Returns false once its budget is used up.
    #[inline(always)]
    pub fn try_consume(&self) -> bool {
        let left = self.budget.get();
        if left > 1 {
            self.budget.set(left - 1);
        }
        left > 1
    }

    /// Counts one more call of the running fiber, unless others run after it or had run before it.
    #[inline(always)]
    pub fn try_consume_within(&self) -> bool {
        let left = self.budget.get();
        if left > 2 {
            self.budget.set(left - 1);
        }
        left > 2
    }

    /// Whether the running fiber may make another call before others run.
    #[inline(always)]
    pub fn has_budget(&self) -> bool {
        self.budget.get() > 1
    }

    /// Whether a call that returns at once must check for cancellation. This is rarely true,
    /// because the check takes longer than the call.
    #[inline(always)]
    pub fn is_cancellation_due(&self) -> bool {
        let left = self.unchecked.get();
        let next = if left == 0 { INLINE_BUDGET } else { left - 1 };
        self.unchecked.set(next);
        left == 0
    }

    /// Ends the quantum because other fibers have run, or need not: the next call begins a new one.
    pub fn end(&self) {
        self.budget.set(0);
    }

    /// Begins a new quantum. Returns false if the last one was not ended.
    pub fn begin(&self) -> bool {
        let ended = self.budget.get() == 0;
        if ended {
            self.refill();
        }
        ended
    }

    /// Gives the running fiber a new budget.
    pub fn refill(&self) {
        self.budget.set(INLINE_BUDGET);
    }

    /// Other fibers run now.
    #[inline(always)]
    pub fn restart(&self) {
        self.refill();
        self.exhausted_at.set(None);
    }

    /// How many nanoseconds ago the running fiber first exhausted its budget.
    pub fn overrun(&self, now: u64) -> u64 {
        now - self.exhausted_at.get().unwrap_or(now)
    }

    /// Gives a new budget to the running fiber, which has exhausted it.
    pub fn extend(&self, now: u64) {
        let since = self.exhausted_at.get().unwrap_or(now);
        self.exhausted_at.set(Some(since));
        self.refill();
    }

    /// Renews the budget of a fiber that has accepted a connection, for up to [`ACCEPTING_NS`].
    /// Without the shim, pending connections are all accepted while earlier ones are being served.
    /// Without this, the fiber would wait for a turn of all serving fibers after every
    /// [`INLINE_BUDGET`] accepts.
    pub fn prolong_for_accept(&self) {
        if self.budget.get() >= INLINE_BUDGET / 2 {
            return;
        }
        let now = sys::now();
        if self.overrun(now) < ACCEPTING_NS {
            self.extend(now);
        }
    }
}
