//! Decides how to carry out a call: the only place that decides, as a pure function of its inputs.
//!
//! A page-cache hit must not pay for asynchrony, and a miss must not block the thread. So a busy
//! thread puts even likely hits into its batch. A less busy thread first makes a non-blocking
//! attempt while enough attempts hit. A thread that has no other fiber to run makes the plain call.
//! docs/policy.md has the costs behind the rules, and the costs of other rules.

#![forbid(unsafe_code)]

mod learned;
mod opens;
mod pace;

pub use learned::Learned;
pub use opens::{Opens, SLOW_OPEN_NS};
pub use pace::{Kind, Pace, paced};

/// The costs of a cached 4 KiB read: a non-blocking attempt (preadv2 with RWF_NOWAIT) that hits, an
/// attempt that misses, one operation of a batch, and the batch as a whole, including the
/// scheduling round. Measured on one machine; only their ratios matter.
const TRY_HIT_NS: u32 = 640;
const TRY_MISS_NS: u32 = 700;
const OPERATION_NS: u32 = 520;
const SUBMISSION_NS: u32 = 960;

/// The batch size from which a batch carries a hit for less than a separate attempt.
const BATCH: u32 = 8;

/// The size in bytes from which copying dominates a cached read. Above it a batch saves next to
/// nothing, and its buffers evict each other from the CPU's caches before they are used.
pub const LARGE: usize = 16 << 10;

/// A buffered write that took longer than this was throttled by the kernel.
pub const SLOW_WRITE_NS: u64 = 200_000;

/// How many calls a fiber may complete inline before it lets the thread's other fibers run.
pub const INLINE_BUDGET: u32 = 64;

/// How long a fiber may continue after that if no fiber waits in the shim, and how long the turns
/// of all runnable fibers together may take. A turn that ends before its data are used twice makes
/// the next one load them into the CPU's caches again. Longer turns would gain a little more, but
/// would delay sleeping fibers (docs/measured.md).
const LONG_TURN_NS: u64 = 500_000;
const ROUND_NS: u64 = 16_000_000;

/// Whether the running fiber may continue. `nanos` is the time since it first exhausted
/// [`INLINE_BUDGET`], `runnable` the number of other runnable fibers.
pub fn goes_on(nanos: u64, runnable: u32, anybody_waits: bool) -> bool {
    // If no other fiber is runnable, a scheduling round is free.
    runnable > 0 && !anybody_waits && nanos < LONG_TURN_NS.min(ROUND_NS / u64::from(runnable))
}

/// The direction of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Read,
    Write,
}

/// Facts remembered about a descriptor: one bit each, and a count. They are hints. A stale one
/// costs time but does no harm.
///
/// Packed as `state/descriptors.rs` of the shim stores them. Every call reads them, and most calls
/// need two or three bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hint(u32);

impl Hint {
    pub const SEEKABLE: Self = Self(1 << 0);
    pub const STREAM: Self = Self(1 << 1);
    /// O_DIRECT
    pub const DIRECT: Self = Self(1 << 2);
    /// O_SYNC or O_DSYNC
    pub const SYNC: Self = Self(1 << 3);
    /// O_NONBLOCK
    pub const NONBLOCKING: Self = Self(1 << 4);
    /// The file refuses RWF_NOWAIT for reads, so no attempt is possible.
    pub const NO_TRY_READ: Self = Self(1 << 5);
    /// O_APPEND
    pub const APPEND: Self = Self(1 << 6);
    /// A socket with SO_RCVTIMEO, SO_SNDTIMEO or SO_RCVLOWAT: `calls::net` looks up how long a call
    /// may block.
    pub const TIMED: Self = Self(1 << 7);

    /// A stream that has answered an attempt, so it supports RWF_NOWAIT.
    pub const TELLS: Self = Self(1 << 30);
    /// The file refuses RWF_NOWAIT for writes. An eventfd does so although it supports it for
    /// reads.
    pub const NO_TRY_WRITE: Self = Self(1 << 31);

    /// The position of the count of attempts to skip: one byte, whose sign is the direction. The
    /// bits above belong to `state/descriptors.rs` of the shim.
    const SKIP: u32 = 8;

    pub const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flag that says that the file refuses attempts in this direction.
    #[inline(always)]
    pub const fn no_try(way: Way) -> Self {
        match way {
            Way::Read => Self::NO_TRY_READ,
            Way::Write => Self::NO_TRY_WRITE,
        }
    }

    /// The facts that were not learned, as a trace stores them: the flags in order, with the last
    /// two moved next to the others.
    pub const fn kind(self) -> u16 {
        (self.0 & 0xff) as u16 | ((self.0 >> 30) as u16) << 8
    }

    /// The inverse of [`Self::kind`].
    #[allow(dead_code, reason = "for the simulation, which includes this file")]
    pub const fn of_kind(kind: u16) -> Self {
        Self((kind & 0xff) as u32 | (kind as u32 >> 8) << 30)
    }

    /// Both sets of facts combined.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all facts of `what` hold.
    #[inline(always)]
    pub const fn is(self, what: Self) -> bool {
        self.0 & what.0 == what.0
    }

    /// Whether any fact of `what` holds.
    #[inline(always)]
    pub const fn is_any(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    /// The number of attempts to skip because the last ones missed, in either direction.
    #[inline(always)]
    pub const fn skip(self) -> u8 {
        (self.0 >> Self::SKIP) as u8 & 0x7f
    }

    /// Whether to skip the attempt for this transfer. The sign of the count's byte is its
    /// direction, so this is a single comparison.
    #[inline(always)]
    pub const fn skips(self, way: Way) -> bool {
        let signed = self.0 as i16;
        match way {
            Way::Read => signed >= 1 << Self::SKIP,
            Way::Write => signed < 0,
        }
    }

    /// `skip` is at most 64.
    #[must_use]
    pub const fn with_skip(self, way: Way, skip: u8) -> Self {
        let sign = match way {
            Way::Write if skip > 0 => 0x80,
            _ => 0,
        };
        Self(self.0 & !(0xff << Self::SKIP) | ((skip & 0x7f | sign) as u32) << Self::SKIP)
    }
}

/// In how many system calls a full set of in-flight operations is submitted to a device. More calls
/// keep the device busier but cost CPU time (docs/measured.md).
const SHARES: usize = 3;
/// The same for reads through the page cache that miss it. Each takes more CPU time, so the rounds
/// are longer.
const COLD_SHARES: usize = 4;

/// Whether `queued` operations justify an extra system call during the round. They do not if few
/// more will follow, because those are submitted by the call that ends the round.
#[inline(always)]
pub fn is_share(
    queued: u32,
    in_flight: usize,
    direct: bool,
    runnable: impl FnOnce() -> u32,
) -> bool {
    if direct {
        queued as usize * SHARES >= in_flight && runnable() * 2 >= queued
    } else {
        queued as usize * COLD_SHARES >= in_flight && runnable() > 0
    }
}

/// How busy the calling fiber's thread is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The expected size of the next batch: the operations queued, plus the fibers that may run and
    /// queue theirs before it is submitted. 0 if the engine does not benefit from batching.
    pub batch: u32,
    pub alone: Alone,
}

/// Whether a call that blocks the thread would delay other fibers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alone {
    /// Other fibers are runnable and would be delayed.
    No,
    /// No other fiber is runnable now, but another thread may wake one.
    ForNow,
    /// There is no other fiber.
    Entirely,
}

impl Alone {
    /// Whether the plain call, on a file like this, delays other fibers by a disk access at most.
    #[inline(always)]
    pub fn suffices(self, hint: Hint) -> bool {
        match self {
            Self::No => false,
            Self::ForNow => hint.is(Hint::SEEKABLE),
            Self::Entirely => true,
        }
    }
}

/// Why a call passes through to libc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Why {
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

impl Why {
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
    Through(Why),
    /// Attempt the call without blocking; if that misses, submit it.
    Try,
    /// Make the plain call, because it only copies or looks up cached data. Time it, to notice when
    /// it blocks.
    Copy,
    /// Queue the call for the engine and park the fiber.
    Submit,
}

impl Decision {
    /// Whether the shim first makes a call inline.
    pub fn is_at_once(self) -> bool {
        matches!(self, Self::Try | Self::Copy)
    }
}

/// Decides about a read of `bytes` bytes, at an offset or at the current position. `bytes` is 0 for
/// a vector, whose length is not known.
#[inline(always)]
pub fn read(hint: Hint, load: Load, bytes: usize, at_position: bool) -> Decision {
    if let Some(why) = through(hint, load, at_position) {
        return Decision::Through(why);
    }
    // Operations at a shared position wait for each other, so there is no batch to join.
    let carried = if hint.is(Hint::SEEKABLE) {
        bytes < LARGE && !at_position
    } else {
        !untried(hint)
    };
    let batch = load.batch >= BATCH && carried;
    if batch || hint.is_any(Hint::DIRECT.with(Hint::NO_TRY_READ)) || hint.skips(Way::Read) {
        Decision::Submit
    } else {
        Decision::Try
    }
}

/// Decides about a write, at an offset or at the current position.
#[inline(always)]
pub fn write(hint: Hint, load: Load, at_position: bool) -> Decision {
    if let Some(why) = through(hint, load, at_position) {
        return Decision::Through(why);
    }
    if hint.is(Hint::STREAM) {
        return if hint.is(Hint::NO_TRY_WRITE)
            || hint.skips(lesson(hint, Way::Write))
            || (load.batch >= BATCH && !untried(hint))
        {
            Decision::Submit
        } else {
            Decision::Try
        };
    }
    // Most file systems refuse RWF_NOWAIT on buffered writes, and io_uring then hands them to
    // kernel threads, which costs several microseconds each. While the kernel only copies, the
    // plain call is faster.
    if hint.is_any(Hint::DIRECT.with(Hint::SYNC)) || hint.skips(Way::Write) {
        Decision::Submit
    } else {
        Decision::Copy
    }
}

/// The direction under which the outcome of an attempt is recorded. A stream has one record for
/// both directions: whether it blocks depends on its peer, and a stream that is read with
/// RWF_NOWAIT may not support it for writes (eventfd).
#[inline(always)]
pub fn lesson(hint: Hint, way: Way) -> Way {
    if hint.is(Hint::STREAM) {
        Way::Read
    } else {
        way
    }
}

/// Whether a stream must still be attempted once: the engine cannot take streams that do not
/// support RWF_NOWAIT (`calls::rw`).
#[inline(always)]
fn untried(hint: Hint) -> bool {
    hint.is(Hint::STREAM) && !hint.is(Hint::TELLS)
}

/// The reason if the transfer passes through to libc.
#[inline(always)]
fn through(hint: Hint, load: Load, at_position: bool) -> Option<Why> {
    if hint.is(Hint::STREAM.with(Hint::NONBLOCKING)) {
        Some(Why::Nonblocking)
    } else if load.alone.suffices(hint) {
        Some(Why::Alone)
    } else if hint.is(Hint::TIMED)
        || !(hint.is(Hint::SEEKABLE) || at_position && hint.is(Hint::STREAM))
    {
        // A file without a position has no offset to transfer at. The plain call returns the
        // kernel's own error (ESPIPE, EBADF).
        Some(Why::Unusual)
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
        alone: Alone::No,
    };
    const MANY: Load = Load {
        batch: 63,
        alone: Alone::No,
    };
    const ALONE: Load = Load {
        batch: 0,
        alone: Alone::Entirely,
    };

    #[test]
    fn a_lone_fiber_makes_the_plain_call() {
        for hint in [FILE, PIPE, FILE.with(Hint::DIRECT)] {
            assert_eq!(read(hint, ALONE, PAGE, true), Decision::Through(Why::Alone));
            assert_eq!(write(hint, ALONE, true), Decision::Through(Why::Alone));
        }
    }

    #[test]
    fn while_others_only_wait_for_it_a_fiber_may_wait_for_a_disk_but_not_for_a_peer() {
        let load = Load {
            batch: 0,
            alone: Alone::ForNow,
        };
        assert_eq!(read(FILE, load, PAGE, true), Decision::Through(Why::Alone));
        assert_eq!(write(FILE, load, true), Decision::Through(Why::Alone));
        assert_eq!(read(PIPE, load, PAGE, true), Decision::Try);
        assert_eq!(
            read(FILE.with(Hint::DIRECT), load, PAGE, false),
            Decision::Through(Why::Alone)
        );
    }

    #[test]
    fn a_likely_hit_is_tried_among_few_and_batched_among_many() {
        assert_eq!(read(FILE, FEW, PAGE, false), Decision::Try);
        assert_eq!(read(FILE, MANY, PAGE, false), Decision::Submit);
        assert_eq!(read(PIPE, FEW, PAGE, true), Decision::Try);
        assert_eq!(
            read(PIPE.with(Hint::TELLS), MANY, PAGE, true),
            Decision::Submit
        );
    }

    #[test]
    fn a_large_cached_read_is_copied_at_once_even_among_many() {
        assert_eq!(read(FILE, MANY, LARGE, false), Decision::Try);
        assert_eq!(read(FILE, MANY, LARGE - 1, false), Decision::Submit);
        assert_eq!(
            read(FILE.with_skip(Way::Read, 1), MANY, LARGE, false),
            Decision::Submit
        );
    }

    #[test]
    fn a_turn_is_long_where_it_keeps_nobody_waiting_and_no_round_is() {
        assert!(goes_on(LONG_TURN_NS - 1, 15, false) && !goes_on(LONG_TURN_NS, 15, false));
        assert!(!goes_on(0, 15, true) && !goes_on(0, 0, false));
        for runnable in [100, 10_000, u32::MAX] {
            assert!(!goes_on(ROUND_NS / u64::from(runnable), runnable, false));
        }
    }

    #[test]
    fn a_stream_is_tried_once_whatever_the_batch() {
        assert_eq!(read(PIPE, MANY, PAGE, true), Decision::Try);
        assert_eq!(write(PIPE, MANY, true), Decision::Try);
        assert_eq!(write(PIPE.with(Hint::TELLS), MANY, true), Decision::Submit);
        assert_eq!(
            read(PIPE.with(Hint::NO_TRY_READ), FEW, PAGE, true),
            Decision::Submit
        );
        assert_eq!(
            write(PIPE.with(Hint::NO_TRY_READ), FEW, true),
            Decision::Try
        );
    }

    #[test]
    fn the_tries_to_skip_share_their_word_with_the_flags() {
        let hint = PIPE.with(Hint::TELLS).with_skip(Way::Read, 64);
        assert_eq!(
            (hint.skip(), hint.is(Hint::STREAM.with(Hint::TELLS))),
            (64, true)
        );
        assert_eq!(hint.with_skip(Way::Read, 0), PIPE.with(Hint::TELLS));
        assert_eq!(hint.kind(), 0x102);
    }

    #[test]
    fn a_device_gets_a_third_of_a_large_round_early() {
        assert!(is_share(11, 32, true, || 21) && is_share(3, 8, true, || 2));
        assert!(!is_share(10, 32, true, || 22) && !is_share(11, 32, true, || 5));
        assert!(
            is_share(8, 32, false, || 3)
                && !is_share(7, 32, false, || 3)
                && !is_share(8, 32, false, || 0)
        );
    }

    #[test]
    fn reads_at_a_shared_position_are_tried_even_among_many() {
        assert_eq!(read(FILE, MANY, PAGE, true), Decision::Try);
    }

    #[test]
    fn what_surely_waits_is_submitted_at_once() {
        for hint in [
            FILE.with(Hint::DIRECT),
            FILE.with_skip(Way::Read, 3),
            FILE.with(Hint::NO_TRY_READ),
        ] {
            assert_eq!(read(hint, FEW, PAGE, false), Decision::Submit);
        }
        assert_eq!(write(FILE.with(Hint::DIRECT), FEW, false), Decision::Submit);
        assert_eq!(write(FILE.with(Hint::SYNC), FEW, true), Decision::Submit);
    }

    #[test]
    fn a_buffered_write_is_a_copy_until_the_kernel_throttles() {
        assert_eq!(write(FILE, MANY, true), Decision::Copy);
        assert_eq!(
            write(FILE.with_skip(Way::Write, 1), MANY, true),
            Decision::Submit
        );
    }

    #[test]
    fn a_nonblocking_stream_goes_through_but_o_nonblock_on_a_file_means_nothing() {
        assert_eq!(
            read(PIPE.with(Hint::NONBLOCKING), MANY, PAGE, true),
            Decision::Through(Why::Nonblocking)
        );
        assert_eq!(
            write(PIPE.with(Hint::NONBLOCKING), MANY, true),
            Decision::Through(Why::Nonblocking)
        );
        assert_eq!(
            read(FILE.with(Hint::NONBLOCKING), FEW, PAGE, true),
            Decision::Try
        );
    }

    #[test]
    fn an_offset_on_a_stream_gets_the_kernels_own_error() {
        assert_eq!(
            read(PIPE, MANY, PAGE, false),
            Decision::Through(Why::Unusual)
        );
        assert_eq!(write(PIPE, MANY, false), Decision::Through(Why::Unusual));
    }

    #[test]
    fn a_socket_with_a_timeout_is_none_of_the_policys() {
        assert_eq!(
            read(PIPE.with(Hint::TIMED), MANY, PAGE, true),
            Decision::Through(Why::Unusual)
        );
        assert_eq!(
            write(PIPE.with(Hint::TIMED), MANY, true),
            Decision::Through(Why::Unusual)
        );
    }
}
