//! Decides how to carry out a call: the only place that decides, as a pure function of its inputs.
//!
//! A page-cache hit must not pay for asynchrony, and a miss must not block the thread. So a busy
//! thread puts even likely hits into its batch. A less busy thread first makes a non-blocking
//! attempt while enough attempts hit. A thread that has no other fiber to run makes the plain call.
//! docs/policy.md has the costs behind the rules, and the costs of other rules.

#![forbid(unsafe_code)]

mod hint;
mod learned;
mod opens;
mod quantum;
mod slow_rate;
mod streak;

pub use hint::Hint;
pub use learned::Learned;
pub use opens::{Opens, SLOW_OPEN_NS};
pub use quantum::{INLINE_BUDGET, may_continue};
pub use slow_rate::{CallKind, SLOW_NS, SlowRate, adaptive};
pub use streak::{SLOW_READ_NS, Streak};

/// The costs of a cached 4 KiB read: a non-blocking attempt (preadv2 with RWF_NOWAIT) that hits, an
/// attempt that misses, one operation of a batch, and the batch as a whole, including the
/// scheduling round. Measured on one machine; only their ratios matter.
const ATTEMPT_HIT_NS: u32 = 640;
const ATTEMPT_MISS_NS: u32 = 700;
const OPERATION_NS: u32 = 520;
const SUBMISSION_NS: u32 = 960;

/// The batch size from which a batch carries a hit for less than a separate attempt.
const BATCH: u32 = 8;

/// The size in bytes from which copying dominates a cached read. Above it a batch saves next to
/// nothing, and its buffers evict each other from the CPU's caches before they are used.
pub const LARGE: usize = 16 << 10;

/// A buffered write that took longer than this many nanoseconds was throttled by the kernel.
pub const SLOW_WRITE_NS: u64 = 200_000;

/// The direction of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Read,
    Write,
}

/// In how many system calls a full set of in-flight operations is submitted to a device. More calls
/// keep the device busier but cost CPU time (docs/measured.md).
const SUBMISSIONS_PER_ROUND: usize = 3;
/// The same for reads through the page cache that miss it. Each takes more CPU time, so the rounds
/// are longer.
const COLD_SUBMISSIONS_PER_ROUND: usize = 4;

/// Whether `queued` operations justify an extra system call during the round. They do not if few
/// more will follow, because those are submitted by the call that ends the round.
#[inline(always)]
pub fn should_submit_early(
    queued: u32,
    in_flight: usize,
    direct: bool,
    runnable: impl FnOnce() -> u32,
) -> bool {
    if direct {
        queued as usize * SUBMISSIONS_PER_ROUND >= in_flight && runnable() * 2 >= queued
    } else {
        queued as usize * COLD_SUBMISSIONS_PER_ROUND >= in_flight && runnable() > 0
    }
}

/// How busy the calling fiber's thread is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The expected size of the next batch: the operations queued, plus the fibers that may run and
    /// queue theirs before it is submitted. 0 if the engine does not benefit from batching.
    pub batch: u32,
    pub contention: Contention,
}

/// Whether a call that blocks the thread would delay other fibers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contention {
    /// Other fibers are runnable and would be delayed.
    OthersRunnable,
    /// No other fiber is runnable now, but another thread may wake one.
    NoneNow,
    /// There is no other fiber.
    SoleFiber,
}

impl Contention {
    /// Whether the plain call, on a file like this, delays other fibers by a disk access at most.
    #[inline(always)]
    pub fn allows_plain_call(self, hint: Hint) -> bool {
        match self {
            Self::OthersRunnable => false,
            Self::NoneNow => hint.contains(Hint::SEEKABLE),
            Self::SoleFiber => true,
        }
    }
}

/// Why a call passes through to libc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reason {
    /// No other fiber of the thread is runnable, so the call delays none.
    Alone,
    /// O_NONBLOCK or RWF_NOWAIT is set, so the call does not block.
    Nonblocking,
    /// The call never blocks.
    Quick,
    /// There is no engine, because all were refused or switched off.
    NoEngine,
    /// The engine would treat these arguments, or this kind of file, differently from the plain
    /// call.
    Unusual,
    /// A call on a lock, and the host or the user has left locks to libc.
    LocksOff,
    /// Another preloaded library is between the shim and libc.
    Interposed,
}

impl Reason {
    pub const ALL: [Self; 7] = [
        Self::Alone,
        Self::Nonblocking,
        Self::Quick,
        Self::NoEngine,
        Self::Unusual,
        Self::LocksOff,
        Self::Interposed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Nonblocking => "nonblocking",
            Self::Quick => "quick",
            Self::NoEngine => "no engine",
            Self::Unusual => "unusual",
            Self::LocksOff => "locks off",
            Self::Interposed => "interposed",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Make the plain call.
    PassThrough(Reason),
    /// Attempt the call without blocking; if that misses, submit it.
    Attempt,
    /// Make the plain call, because it only copies or looks up cached data. Time it, to notice when
    /// it blocks.
    Inline,
    /// Queue the call for the engine and park the fiber.
    Submit,
}

impl Decision {
    /// Whether the shim first makes a call inline.
    pub fn starts_inline(self) -> bool {
        matches!(self, Self::Attempt | Self::Inline)
    }
}

/// Decides about a read of `bytes` bytes, at an offset or at the current position, after this
/// streak of the thread's attempts to read. `bytes` is 0 for a vector, whose length is not known.
#[inline(always)]
pub fn read(hint: Hint, load: Load, bytes: usize, at_position: bool, streak: Streak) -> Decision {
    if let Some(reason) = reason_to_pass(hint, load, at_position) {
        return Decision::PassThrough(reason);
    }
    // Operations at a shared position wait for each other, so there is no batch to join.
    let carried = if hint.contains(Hint::SEEKABLE) {
        bytes < LARGE && !at_position
    } else {
        !needs_first_attempt(hint)
    };
    let batch = load.batch >= BATCH && carried;
    if batch
        || hint.intersects(Hint::DIRECT.with(Hint::REFUSES_NOWAIT_READ))
        || hint.skips(Direction::Read)
    {
        Decision::Submit
    } else if streak.is_long()
        && hint.contains(Hint::SEEKABLE.with(Hint::NOWAIT_KNOWN))
        && (1..LARGE).contains(&bytes)
        && !at_position
    {
        // At an offset only: if the hint is stale and this is a stream, a read at the position
        // would wait for its peer, and one at an offset fails.
        Decision::Inline
    } else {
        Decision::Attempt
    }
}

/// Decides about a write, at an offset or at the current position.
#[inline(always)]
pub fn write(hint: Hint, load: Load, at_position: bool) -> Decision {
    if let Some(reason) = reason_to_pass(hint, load, at_position) {
        return Decision::PassThrough(reason);
    }
    if hint.contains(Hint::STREAM) {
        return if hint.contains(Hint::REFUSES_NOWAIT_WRITE)
            || hint.skips(recorded_direction(hint, Direction::Write))
            || (load.batch >= BATCH && !needs_first_attempt(hint))
        {
            Decision::Submit
        } else {
            Decision::Attempt
        };
    }
    // Most file systems refuse RWF_NOWAIT on buffered writes, and io_uring then hands them to
    // kernel threads, which costs several microseconds each. While the kernel only copies, the
    // plain call is faster.
    if hint.intersects(Hint::DIRECT.with(Hint::SYNC)) || hint.skips(Direction::Write) {
        Decision::Submit
    } else {
        Decision::Inline
    }
}

/// The direction under which the outcome of an attempt is recorded. A stream has one record for
/// both directions: whether it blocks depends on its peer, and a stream that is read with
/// RWF_NOWAIT may not support it for writes (eventfd).
#[inline(always)]
pub fn recorded_direction(hint: Hint, direction: Direction) -> Direction {
    if hint.contains(Hint::STREAM) {
        Direction::Read
    } else {
        direction
    }
}

/// Whether a stream must still be attempted once: the engine cannot take streams that do not
/// support RWF_NOWAIT (`calls::rw`).
#[inline(always)]
fn needs_first_attempt(hint: Hint) -> bool {
    hint.contains(Hint::STREAM) && !hint.contains(Hint::NOWAIT_KNOWN)
}

/// The reason if the transfer passes through to libc.
#[inline(always)]
fn reason_to_pass(hint: Hint, load: Load, at_position: bool) -> Option<Reason> {
    if hint.contains(Hint::STREAM.with(Hint::NONBLOCKING)) {
        Some(Reason::Nonblocking)
    } else if load.contention.allows_plain_call(hint) {
        Some(Reason::Alone)
    } else if hint.contains(Hint::HAS_TIMEOUT)
        || !(hint.contains(Hint::SEEKABLE) || at_position && hint.contains(Hint::STREAM))
    {
        // A file without a position has no offset to transfer at. The plain call returns the
        // kernel's own error (ESPIPE, EBADF).
        Some(Reason::Unusual)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;
    const FILE: Hint = Hint::SEEKABLE;
    const PIPE: Hint = Hint::STREAM;
    const FEW: Load = Load {
        batch: 1,
        contention: Contention::OthersRunnable,
    };
    const MANY: Load = Load {
        batch: 63,
        contention: Contention::OthersRunnable,
    };
    const ALONE: Load = Load {
        batch: 0,
        contention: Contention::SoleFiber,
    };

    #[test]
    fn a_lone_fiber_makes_the_plain_call() {
        for hint in [FILE, PIPE, FILE.with(Hint::DIRECT)] {
            assert_eq!(
                read(hint, ALONE, PAGE, true, Streak::NONE),
                Decision::PassThrough(Reason::Alone)
            );
            assert_eq!(
                write(hint, ALONE, true),
                Decision::PassThrough(Reason::Alone)
            );
        }
    }

    #[test]
    fn while_others_only_wait_for_it_a_fiber_may_wait_for_a_disk_but_not_for_a_peer() {
        let load = Load {
            batch: 0,
            contention: Contention::NoneNow,
        };
        assert_eq!(
            read(FILE, load, PAGE, true, Streak::NONE),
            Decision::PassThrough(Reason::Alone)
        );
        assert_eq!(
            write(FILE, load, true),
            Decision::PassThrough(Reason::Alone)
        );
        assert_eq!(
            read(PIPE, load, PAGE, true, Streak::NONE),
            Decision::Attempt
        );
        assert_eq!(
            read(FILE.with(Hint::DIRECT), load, PAGE, false, Streak::NONE),
            Decision::PassThrough(Reason::Alone)
        );
    }

    #[test]
    fn a_likely_hit_is_tried_among_few_and_batched_among_many() {
        assert_eq!(
            read(FILE, FEW, PAGE, false, Streak::NONE),
            Decision::Attempt
        );
        assert_eq!(
            read(FILE, MANY, PAGE, false, Streak::NONE),
            Decision::Submit
        );
        assert_eq!(read(PIPE, FEW, PAGE, true, Streak::NONE), Decision::Attempt);
        assert_eq!(
            read(
                PIPE.with(Hint::NOWAIT_KNOWN),
                MANY,
                PAGE,
                true,
                Streak::NONE
            ),
            Decision::Submit
        );
    }

    #[test]
    fn a_large_cached_read_is_copied_at_once_even_among_many() {
        assert_eq!(
            read(FILE, MANY, LARGE, false, Streak::NONE),
            Decision::Attempt
        );
        assert_eq!(
            read(FILE, MANY, LARGE - 1, false, Streak::NONE),
            Decision::Submit
        );
        assert_eq!(
            read(
                FILE.with_skip(Direction::Read, 1),
                MANY,
                LARGE,
                false,
                Streak::NONE
            ),
            Decision::Submit
        );
    }

    #[test]
    fn a_stream_is_tried_once_whatever_the_batch() {
        assert_eq!(
            read(PIPE, MANY, PAGE, true, Streak::NONE),
            Decision::Attempt
        );
        assert_eq!(write(PIPE, MANY, true), Decision::Attempt);
        assert_eq!(
            write(PIPE.with(Hint::NOWAIT_KNOWN), MANY, true),
            Decision::Submit
        );
        assert_eq!(
            read(
                PIPE.with(Hint::REFUSES_NOWAIT_READ),
                FEW,
                PAGE,
                true,
                Streak::NONE
            ),
            Decision::Submit
        );
        assert_eq!(
            write(PIPE.with(Hint::REFUSES_NOWAIT_READ), FEW, true),
            Decision::Attempt
        );
    }

    #[test]
    fn a_device_gets_a_third_of_a_large_round_early() {
        assert!(should_submit_early(11, 32, true, || 21) && should_submit_early(3, 8, true, || 2));
        assert!(
            !should_submit_early(10, 32, true, || 22) && !should_submit_early(11, 32, true, || 5)
        );
        assert!(
            should_submit_early(8, 32, false, || 3)
                && !should_submit_early(7, 32, false, || 3)
                && !should_submit_early(8, 32, false, || 0)
        );
    }

    #[test]
    fn reads_at_a_shared_position_are_tried_even_among_many() {
        assert_eq!(
            read(FILE, MANY, PAGE, true, Streak::NONE),
            Decision::Attempt
        );
    }

    #[test]
    fn after_a_long_streak_a_small_read_at_an_offset_is_a_plain_call() {
        let mut streak = Streak::NONE;
        while !streak.is_long() {
            streak = streak.hit();
        }
        let known = FILE.with(Hint::NOWAIT_KNOWN);
        let decide = |hint, load, bytes, at_position| read(hint, load, bytes, at_position, streak);
        assert_eq!(decide(known, FEW, PAGE, false), Decision::Inline);
        assert_eq!(decide(known, MANY, PAGE, false), Decision::Submit);
        for (hint, bytes, at_position) in [
            (FILE, PAGE, false),
            (known, PAGE, true),
            (known, LARGE, false),
            (known, 0, false),
            (PIPE.with(Hint::NOWAIT_KNOWN), PAGE, true),
        ] {
            let decision = decide(hint, FEW, bytes, at_position);
            assert_eq!(
                decision,
                Decision::Attempt,
                "{hint:?} {bytes} {at_position}"
            );
        }
        for hint in [Hint::DIRECT, Hint::REFUSES_NOWAIT_READ] {
            let hint = known.with(hint);
            assert_eq!(decide(hint, FEW, PAGE, false), Decision::Submit);
        }
        let skips = known.with_skip(Direction::Read, 1);
        assert_eq!(decide(skips, FEW, PAGE, false), Decision::Submit);
    }

    #[test]
    fn what_surely_waits_is_submitted_at_once() {
        for hint in [
            FILE.with(Hint::DIRECT),
            FILE.with_skip(Direction::Read, 3),
            FILE.with(Hint::REFUSES_NOWAIT_READ),
        ] {
            assert_eq!(read(hint, FEW, PAGE, false, Streak::NONE), Decision::Submit);
        }
        assert_eq!(write(FILE.with(Hint::DIRECT), FEW, false), Decision::Submit);
        assert_eq!(write(FILE.with(Hint::SYNC), FEW, true), Decision::Submit);
    }

    #[test]
    fn a_buffered_write_is_a_copy_until_the_kernel_throttles() {
        assert_eq!(write(FILE, MANY, true), Decision::Inline);
        assert_eq!(
            write(FILE.with_skip(Direction::Write, 1), MANY, true),
            Decision::Submit
        );
    }

    #[test]
    fn a_nonblocking_stream_goes_through_but_o_nonblock_on_a_file_means_nothing() {
        assert_eq!(
            read(PIPE.with(Hint::NONBLOCKING), MANY, PAGE, true, Streak::NONE),
            Decision::PassThrough(Reason::Nonblocking)
        );
        assert_eq!(
            write(PIPE.with(Hint::NONBLOCKING), MANY, true),
            Decision::PassThrough(Reason::Nonblocking)
        );
        assert_eq!(
            read(FILE.with(Hint::NONBLOCKING), FEW, PAGE, true, Streak::NONE),
            Decision::Attempt
        );
    }

    #[test]
    fn an_offset_on_a_stream_gets_the_kernels_own_error() {
        assert_eq!(
            read(PIPE, MANY, PAGE, false, Streak::NONE),
            Decision::PassThrough(Reason::Unusual)
        );
        assert_eq!(
            write(PIPE, MANY, false),
            Decision::PassThrough(Reason::Unusual)
        );
    }

    #[test]
    fn a_socket_with_a_timeout_is_none_of_the_policys() {
        assert_eq!(
            read(PIPE.with(Hint::HAS_TIMEOUT), MANY, PAGE, true, Streak::NONE),
            Decision::PassThrough(Reason::Unusual)
        );
        assert_eq!(
            write(PIPE.with(Hint::HAS_TIMEOUT), MANY, true),
            Decision::PassThrough(Reason::Unusual)
        );
    }
}
