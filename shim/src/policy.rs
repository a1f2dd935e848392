//! What to do with a call: the one place that decides, a pure function of what is known.
//!
//! A page-cache hit must not pay for asynchrony, a miss must not block the thread. The costs behind the rules (4 KiB
//! cached, one machine, ns): pread 540, preadv2 with RWF_NOWAIT 640, io_uring one at a time 990, in batches of 16 560,
//! of 64 530. So a busy thread lets its batch carry even hits, an idle one tries first, and a thread that has nobody
//! else to run just makes the plain call.

#![forbid(unsafe_code)]

/// Operations in a batch from which it carries a hit for less than a try of its own.
const BATCH: u32 = 8;

/// A buffered write that took longer than this was throttled by the kernel, not just copied.
pub const SLOW_WRITE_NS: u64 = 200_000;

/// Calls a fiber may complete inline before it lets the others of its thread run.
pub const INLINE_BUDGET: u32 = 64;

/// What kind of file a descriptor is, as far as the kernel's rules for read and write differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// Not looked at yet, or no descriptor at all.
    Unknown,
    /// Has a position: regular files, block devices, directories.
    Seekable,
    /// Has none: pipes, sockets, terminals, eventfds.
    Stream,
}

/// What is remembered of a descriptor. A hint: it may be stale, and then costs time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hint {
    pub class: Class,
    /// O_DIRECT
    pub direct: bool,
    /// O_SYNC or O_DSYNC
    pub sync: bool,
    /// O_NONBLOCK
    pub nonblocking: bool,
    /// The file refuses RWF_NOWAIT: a try cannot tell.
    pub no_try: bool,
    /// A socket with SO_RCVTIMEO or SO_SNDTIMEO: the kernel's own call knows how long to wait.
    pub timed: bool,
    /// Tries to skip, because the last ones missed.
    pub skip: u8,
}

/// How busy the calling fiber's thread is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What the next batch may come to: operations queued, and fibers that could run and queue theirs before it is
    /// submitted.
    pub batch: u32,
    pub alone: Alone,
}

/// Whom a call that blocks the thread would delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alone {
    /// Somebody.
    No,
    /// Nobody, unless another thread wakes a fiber of this one meanwhile.
    ForNow,
    /// Nobody: there is no other fiber.
    Entirely,
}

impl Alone {
    /// Whether the plain call, on a file like this, delays nobody for longer than a disk takes.
    #[inline(always)]
    pub fn suffices(self, class: Class, direct: bool) -> bool {
        match self {
            Self::No => false,
            Self::ForNow => class == Class::Seekable && !direct,
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
    /// io_uring is refused here, or switched off.
    NoEngine,
    /// Arguments or a kind of file the engine would not treat as the plain call does.
    Unusual,
}

impl Why {
    pub const ALL: [Self; 5] = [
        Self::Alone,
        Self::Nonblocking,
        Self::Quick,
        Self::NoEngine,
        Self::Unusual,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Nonblocking => "nonblocking",
            Self::Quick => "quick",
            Self::NoEngine => "no engine",
            Self::Unusual => "unusual",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The plain call.
    Through(Why),
    /// The call in a form that does not wait; on a miss, submit.
    Try,
    /// The plain call, because it only copies; timed, so that a kernel that throttles is noticed.
    Copy,
    /// Queue it for the engine and park.
    Submit,
}

/// A read, at an offset or at the current position.
pub fn read(hint: Hint, load: Load, at_position: bool) -> Decision {
    if hint.nonblocking && hint.class == Class::Stream {
        return Decision::Through(Why::Nonblocking);
    }
    if load.alone.suffices(hint.class, hint.direct) {
        return Decision::Through(Why::Alone);
    }
    if hint.timed {
        return Decision::Through(Why::Unusual);
    }
    // Without a position there is no offset to read at: the kernel's own error is wanted (ESPIPE, EBADF).
    if hint.class == Class::Unknown || (hint.class == Class::Stream && !at_position) {
        return Decision::Through(Why::Unusual);
    }
    // At a shared position operations queue up behind each other, so there is no batch to wait for.
    let batch = load.batch >= BATCH && !(at_position && hint.class == Class::Seekable);
    if hint.direct || hint.no_try || hint.skip > 0 || batch {
        Decision::Submit
    } else {
        Decision::Try
    }
}

/// A write, at an offset or at the current position.
pub fn write(hint: Hint, load: Load, at_position: bool) -> Decision {
    if hint.nonblocking && hint.class == Class::Stream {
        return Decision::Through(Why::Nonblocking);
    }
    if load.alone.suffices(hint.class, hint.direct) {
        return Decision::Through(Why::Alone);
    }
    if hint.timed {
        return Decision::Through(Why::Unusual);
    }
    match hint.class {
        Class::Unknown => Decision::Through(Why::Unusual),
        Class::Stream if !at_position => Decision::Through(Why::Unusual),
        Class::Stream if hint.no_try || hint.skip > 0 || load.batch >= BATCH => Decision::Submit,
        Class::Stream => Decision::Try,
        // Most file systems refuse RWF_NOWAIT on buffered writes, and io_uring then hands them to kernel threads at
        // several microseconds each: while the kernel only copies, the plain call is the fast one.
        Class::Seekable if hint.direct || hint.sync || hint.skip > 0 => Decision::Submit,
        Class::Seekable => Decision::Copy,
    }
}

/// How many tries to skip after the `misses`-th miss in a row: 1, 2, 4 ... 64.
pub fn backoff(misses: u8) -> u8 {
    1 << misses.min(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Hint = Hint {
        class: Class::Seekable,
        direct: false,
        sync: false,
        nonblocking: false,
        no_try: false,
        timed: false,
        skip: 0,
    };
    const PIPE: Hint = Hint {
        class: Class::Stream,
        ..FILE
    };
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
        for hint in [FILE, PIPE, Hint { direct: true, ..FILE }] {
            assert_eq!(read(hint, ALONE, true), Decision::Through(Why::Alone));
            assert_eq!(write(hint, ALONE, true), Decision::Through(Why::Alone));
        }
    }

    #[test]
    fn while_others_only_wait_for_it_a_fiber_may_wait_for_a_disk_but_not_for_a_peer() {
        let load = Load {
            batch: 0,
            alone: Alone::ForNow,
        };
        assert_eq!(read(FILE, load, true), Decision::Through(Why::Alone));
        assert_eq!(write(FILE, load, true), Decision::Through(Why::Alone));
        assert_eq!(read(PIPE, load, true), Decision::Try);
        assert_eq!(read(Hint { direct: true, ..FILE }, load, false), Decision::Submit);
    }

    #[test]
    fn a_likely_hit_is_tried_among_few_and_batched_among_many() {
        assert_eq!(read(FILE, FEW, false), Decision::Try);
        assert_eq!(read(FILE, MANY, false), Decision::Submit);
        assert_eq!(read(PIPE, FEW, true), Decision::Try);
        assert_eq!(read(PIPE, MANY, true), Decision::Submit);
    }

    #[test]
    fn reads_at_a_shared_position_are_tried_even_among_many() {
        assert_eq!(read(FILE, MANY, true), Decision::Try);
    }

    #[test]
    fn what_surely_waits_is_submitted_at_once() {
        for hint in [
            Hint { direct: true, ..FILE },
            Hint { skip: 3, ..FILE },
            Hint { no_try: true, ..FILE },
        ] {
            assert_eq!(read(hint, FEW, false), Decision::Submit);
        }
        assert_eq!(write(Hint { direct: true, ..FILE }, FEW, false), Decision::Submit);
        assert_eq!(write(Hint { sync: true, ..FILE }, FEW, true), Decision::Submit);
    }

    #[test]
    fn a_buffered_write_is_a_copy_until_the_kernel_throttles() {
        assert_eq!(write(FILE, MANY, true), Decision::Copy);
        assert_eq!(write(Hint { skip: 1, ..FILE }, MANY, true), Decision::Submit);
    }

    #[test]
    fn a_nonblocking_stream_goes_through_but_o_nonblock_on_a_file_means_nothing() {
        assert_eq!(
            read(
                Hint {
                    nonblocking: true,
                    ..PIPE
                },
                MANY,
                true
            ),
            Decision::Through(Why::Nonblocking)
        );
        assert_eq!(
            write(
                Hint {
                    nonblocking: true,
                    ..PIPE
                },
                MANY,
                true
            ),
            Decision::Through(Why::Nonblocking)
        );
        assert_eq!(
            read(
                Hint {
                    nonblocking: true,
                    ..FILE
                },
                FEW,
                true
            ),
            Decision::Try
        );
    }

    #[test]
    fn an_offset_on_a_stream_gets_the_kernels_own_error() {
        assert_eq!(read(PIPE, MANY, false), Decision::Through(Why::Unusual));
        assert_eq!(write(PIPE, MANY, false), Decision::Through(Why::Unusual));
    }

    #[test]
    fn a_socket_with_a_timeout_is_the_kernels_to_time() {
        assert_eq!(
            read(Hint { timed: true, ..PIPE }, MANY, true),
            Decision::Through(Why::Unusual)
        );
        assert_eq!(
            write(Hint { timed: true, ..PIPE }, MANY, true),
            Decision::Through(Why::Unusual)
        );
    }

    #[test]
    fn misses_in_a_row_skip_ever_more_tries_up_to_64() {
        assert_eq!(
            (0..9).map(backoff).collect::<Vec<_>>(),
            [1, 2, 4, 8, 16, 32, 64, 64, 64]
        );
    }
}
