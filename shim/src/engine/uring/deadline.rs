//! The end of timed waits as an operation of the ring: a timeout that stays armed over many waits.
//!
//! A timeout that is passed to io_uring_enter(2) starts and cancels a timer of the kernel in each
//! call; in a virtual machine that alone can cost more than the rest of the call. But a thread that
//! waits for I/O a hundred thousand times a second mostly has the same deadline in mind each time:
//! its first timer's.
//!
//! The timeout is relative: io_uring takes absolute times for the host's, not for those of the
//! process's time namespace, and knows nothing of a preloaded library that tells another time.
//!
//! Invariant: while `armed` is some time, an operation is queued or in the kernel that completes
//! then.

use super::{DEADLINE, SILENT};
use io_uring::{opcode, squeue, types};

/// What a wait may be too long: the kernel's own default for timers (PR_SET_TIMERSLACK).
const SLACK_NS: u64 = 50_000;

pub struct Deadline {
    /// Nanoseconds of CLOCK_MONOTONIC, as this process has it.
    armed: Option<u64>,
    /// What the operation reads. Boxed: the queue holds its address.
    time: Box<types::Timespec>,
}

/// An entry and its user data.
type Queued = Option<(squeue::Entry, u64)>;

impl Deadline {
    pub fn new() -> Self {
        Self {
            armed: None,
            time: Box::new(types::Timespec::new()),
        }
    }

    /// What to queue so that the ring has a completion `nanos` after `now`, or earlier: a wait that
    /// ends early is repeated.
    pub fn arm(&mut self, now: u64, nanos: u64) -> [Queued; 2] {
        let deadline = now.saturating_add(nanos);
        // One that should have come was armed in another time namespace, or is about to come.
        let serves = |armed: u64| {
            (now.saturating_sub(SLACK_NS)..=deadline.saturating_add(SLACK_NS)).contains(&armed)
        };
        if self.armed.is_some_and(serves) {
            return [None, None];
        }
        let replaced = self.armed.replace(deadline);
        *self.time = types::Timespec::new()
            .sec(nanos / 1_000_000_000)
            .nsec((nanos % 1_000_000_000) as u32);
        let timeout = opcode::Timeout::new(&*self.time).build();
        let removal = replaced.map(|_| (opcode::TimeoutRemove::new(DEADLINE).build(), SILENT));
        [removal, Some((timeout, DEADLINE))]
    }

    /// A completion of a timeout's came. One that was removed for an earlier one says ECANCELED.
    pub fn completed(&mut self, result: i32) {
        if result != -libc::ECANCELED {
            self.armed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_has_jumped_does_not_make_a_wait_longer() {
        let mut deadline = Deadline::new();
        deadline.arm(1_000_000, 500_000);
        assert!(
            deadline.arm(90_000_000, 500_000)[1].is_some(),
            "it went forwards"
        );
        assert!(
            deadline.arm(1_000_000, 500_000)[1].is_some(),
            "it went backwards"
        );
    }

    #[test]
    fn one_timeout_serves_many_waits_and_an_earlier_deadline_replaces_it() {
        let mut deadline = Deadline::new();
        let queued = |entries: [Queued; 2]| entries.map(|entry| entry.is_some());
        assert_eq!(queued(deadline.arm(0, 1_000_000)), [false, true]);
        assert_eq!(queued(deadline.arm(1000, 998_000)), [false, false]);
        assert_eq!(queued(deadline.arm(1000, 5_000_000)), [false, false]);
        assert_eq!(queued(deadline.arm(1000, 500_000)), [true, true]);
        deadline.completed(-libc::ECANCELED);
        assert_eq!(queued(deadline.arm(2000, 500_000)), [false, false]);
        deadline.completed(-libc::ETIME);
        assert_eq!(queued(deadline.arm(3000, 500_000)), [false, true]);
    }
}
