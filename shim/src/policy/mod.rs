//! What to do with a call: the one place that decides, a pure function of what is known.
//!
//! A page-cache hit must not pay for asynchrony, a miss must not block the thread. So a busy thread
//! lets its batch carry even hits, an idle one tries first while enough tries hit, and a thread
//! that has nobody else to run just makes the plain call. docs/policy.md has the costs behind the
//! rules, and what other rules would cost.

#![forbid(unsafe_code)]

mod learned;
mod opens;
mod pace;

pub use learned::Learned;
#[allow(
    unused_imports,
    reason = "for the shim: the simulation, which includes this file, has opens go as they went"
)]
pub use opens::{Opens, SLOW_OPEN_NS};
#[allow(
    unused_imports,
    reason = "for the shim: the simulation has calls on names go as they went"
)]
pub use pace::{Kind, Pace, paced};

/// What a cached 4 KiB read costs tried (preadv2 with RWF_NOWAIT), what a try in vain costs, what
/// an operation in a batch does, and what the batch does as a whole, the scheduler's round
/// included. One machine's: ratios count.
const TRY_HIT_NS: u32 = 640;
const TRY_MISS_NS: u32 = 700;
const OPERATION_NS: u32 = 520;
const SUBMISSION_NS: u32 = 960;

/// Operations in a batch from which it carries a hit for less than a try of its own.
const BATCH: u32 = 8;

/// Bytes from which a cached read is copying more than anything else: a batch saves nothing worth
/// having, and its buffers push each other out of the processor's caches before they are looked at.
pub const LARGE: usize = 16 << 10;

/// A buffered write that took longer than this was throttled by the kernel, not just copied.
pub const SLOW_WRITE_NS: u64 = 200_000;

/// Calls a fiber may complete inline before it lets the others of its thread run.
pub const INLINE_BUDGET: u32 = 64;

/// How long it may go on after those where nobody waits in the shim, and how long the turns of all
/// may then take. A turn that ends before its data are used twice brings them all into the
/// processor's caches anew; longer ones would gain a little more, and keep those waiting that sleep
/// (docs/measured.md).
const LONG_TURN_NS: u64 = 500_000;
const ROUND_NS: u64 = 16_000_000;

/// Whether a fiber goes on that used up [`INLINE_BUDGET`] for the first time so many nanoseconds
/// ago, with so many others that could run.
pub fn goes_on(nanos: u64, runnable: u32, anybody_waits: bool) -> bool {
    // With nobody else to run, to look around costs nothing.
    runnable > 0 && !anybody_waits && nanos < LONG_TURN_NS.min(ROUND_NS / u64::from(runnable))
}

/// Which way a transfer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Read,
    Write,
}

/// What is remembered of a descriptor, a bit each, and a count. A hint: it may be stale, and then
/// costs time.
///
/// Packed as [`crate::fds`] keeps it: each call looks at it, most at two or three bits.
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
    /// The file refuses RWF_NOWAIT for reads: a try cannot tell.
    pub const NO_TRY_READ: Self = Self(1 << 5);
    /// O_APPEND
    pub const APPEND: Self = Self(1 << 6);
    /// A socket with SO_RCVTIMEO, SO_SNDTIMEO or SO_RCVLOWAT: how long a call waits is looked up
    /// (`calls::net`).
    pub const TIMED: Self = Self(1 << 7);

    /// A stream that has answered a try: it knows RWF_NOWAIT.
    pub const TELLS: Self = Self(1 << 30);
    /// The file refuses RWF_NOWAIT for writes; an eventfd does so and knows it for reads.
    pub const NO_TRY_WRITE: Self = Self(1 << 31);

    /// Where the tries to leave out are counted, in a byte with its sign. The bits above are
    /// [`crate::fds`]'s.
    const SKIP: u32 = 8;

    pub const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flag that says that the file refuses tries of this way.
    #[inline(always)]
    pub const fn no_try(way: Way) -> Self {
        match way {
            Way::Read => Self::NO_TRY_READ,
            Way::Write => Self::NO_TRY_WRITE,
        }
    }

    /// What was not learned, as a trace has it: the flags in their order, the last two next to the
    /// others.
    pub const fn kind(self) -> u16 {
        (self.0 & 0xff) as u16 | ((self.0 >> 30) as u16) << 8
    }

    /// From what [`Self::kind`] gave.
    #[allow(dead_code, reason = "for the simulation, which includes this file")]
    pub const fn of_kind(kind: u16) -> Self {
        Self((kind & 0xff) as u32 | (kind as u32 >> 8) << 30)
    }

    /// This and that.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `what` is so.
    #[inline(always)]
    pub const fn is(self, what: Self) -> bool {
        self.0 & what.0 == what.0
    }

    /// Whether any of `what` is so.
    #[inline(always)]
    pub const fn is_any(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    /// Tries to leave out, because the last ones missed, of either way.
    #[inline(always)]
    pub const fn skip(self) -> u8 {
        (self.0 >> Self::SKIP) as u8 & 0x7f
    }

    /// Whether this transfer is not to be tried. The upper byte's sign says of which way its count
    /// is, so that this is one comparison.
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

/// System calls in which as many operations as are in flight are handed to a device: more keep it
/// busier, and cost calls (docs/measured.md).
const SHARES: usize = 3;
/// The same for reads that go through the page cache and miss it: each takes more CPU, so the
/// rounds are longer.
const COLD_SHARES: usize = 4;

/// Whether `queued` operations are worth a system call of their own while the round still runs: not
/// when few more are to come, for the last ones go with the call that ends it.
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
    /// What the next batch may come to: operations queued, and fibers that could run and queue
    /// theirs before it is submitted. 0 where the engine makes nothing of batches.
    pub batch: u32,
    pub alone: Alone,
}

/// Whom a call that blocks the thread would delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alone {
    /// Somebody.
    No,
    /// Nobody for a while, unless another thread wakes a fiber of this one meanwhile.
    ForNow,
    /// Nobody: there is no other fiber.
    Entirely,
}

impl Alone {
    /// Whether the plain call, on a file like this, delays nobody for longer than a disk takes.
    #[inline(always)]
    pub fn suffices(self, hint: Hint) -> bool {
        match self {
            Self::No => false,
            Self::ForNow => hint.is(Hint::SEEKABLE),
            Self::Entirely => true,
        }
    }
}

/// Why a call goes through to libc as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Why {
    /// No other fiber of the thread could run meanwhile: nobody is delayed.
    Alone,
    /// O_NONBLOCK or RWF_NOWAIT: the call does not wait.
    Nonblocking,
    /// The call does not wait for anything.
    Quick,
    /// There is no engine: all are refused here, or switched off.
    NoEngine,
    /// Arguments or a kind of file the engine would not treat as the plain call does.
    Unusual,
    /// It is a lock's, and the host or the user leaves locks to libc.
    LocksOff,
    /// Another preloaded library stands between the shim and libc.
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
    /// The plain call.
    Through(Why),
    /// The call in a form that does not wait; on a miss, submit.
    Try,
    /// The plain call, because it only copies, or looks up what is cached; timed, so that one that
    /// waits is noticed.
    Copy,
    /// Queue it for the engine and park.
    Submit,
}

impl Decision {
    /// Whether a call of ours comes first.
    pub fn is_at_once(self) -> bool {
        matches!(self, Self::Try | Self::Copy)
    }
}

/// A read of so many bytes, at an offset or at the current position. 0 bytes of a vector, whose
/// length is not known.
#[inline(always)]
pub fn read(hint: Hint, load: Load, bytes: usize, at_position: bool) -> Decision {
    if let Some(why) = through(hint, load, at_position) {
        return Decision::Through(why);
    }
    // At a shared position operations queue up behind each other, so there is no batch to wait for.
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

/// A write, at an offset or at the current position.
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
    // kernel threads at several microseconds each: while the kernel only copies, the plain call is
    // the fast one.
    if hint.is_any(Hint::DIRECT.with(Hint::SYNC)) || hint.skips(Way::Write) {
        Decision::Submit
    } else {
        Decision::Copy
    }
}

/// Whose tries a transfer teaches. A stream has one account for both ways: whether it waits is up
/// to its peer, and one that others wait to read from may not even know RWF_NOWAIT on writes
/// (eventfd).
#[inline(always)]
pub fn lesson(hint: Hint, way: Way) -> Way {
    if hint.is(Hint::STREAM) {
        Way::Read
    } else {
        way
    }
}

/// A stream is tried at least once: those that do not know RWF_NOWAIT are not for the engine
/// (`calls::rw`).
#[inline(always)]
fn untried(hint: Hint) -> bool {
    hint.is(Hint::STREAM) && !hint.is(Hint::TELLS)
}

/// Why a transfer is none of ours, if so.
#[inline(always)]
fn through(hint: Hint, load: Load, at_position: bool) -> Option<Why> {
    if hint.is(Hint::STREAM.with(Hint::NONBLOCKING)) {
        Some(Why::Nonblocking)
    } else if load.alone.suffices(hint) {
        Some(Why::Alone)
    } else if hint.is(Hint::TIMED)
        || !(hint.is(Hint::SEEKABLE) || at_position && hint.is(Hint::STREAM))
    {
        // Without a position there is no offset to transfer at: the kernel's own error is wanted
        // (ESPIPE, EBADF).
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
