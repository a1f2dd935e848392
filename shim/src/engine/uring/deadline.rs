//! Timed waits end by an operation of the ring: a timeout that stays armed over many waits.
//!
//! A timeout argument of io_uring_enter(2) makes the kernel start and cancel a timer in every call.
//! In a virtual machine that alone can cost more than the rest of the call. But a thread that waits
//! for I/O a hundred thousand times a second usually has the same deadline each time: that of its
//! first timer.
//!
//! The timeout is relative, because io_uring interprets absolute times in the initial time
//! namespace instead of that of the process, and does not see a clock that another preloaded
//! library simulates.
//!
//! Invariant: while `armed` holds a time, an operation that completes at that time is queued or in
//! the kernel.

use super::{DEADLINE, SILENT};
use io_uring::{opcode, squeue, types};

/// How much too long a wait may last: the kernel's own default for timers (PR_SET_TIMERSLACK).
const SLACK_NS: u64 = 50_000;

pub struct Deadline {
    /// Nanoseconds of CLOCK_MONOTONIC as this process sees it.
    armed: Option<u64>,
    /// The argument of the operation. Boxed because the queue holds its address.
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

    /// The entries to queue so that the ring has a completion `nanos` after `now` or earlier. The
    /// caller repeats a wait that ends early.
    pub fn arm(&mut self, now: u64, nanos: u64) -> [Queued; 2] {
        let deadline = now.saturating_add(nanos);
        // A deadline in the past was armed in another time namespace, or is about to complete.
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

    /// Notes that a timeout completed. ECANCELED means that an earlier deadline replaced it.
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
