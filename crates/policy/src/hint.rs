//! What is remembered about a descriptor, packed into a word.

#![forbid(unsafe_code)]

use super::Direction;

/// Facts remembered about a descriptor: one bit each, and a count. They are hints. A stale one
/// costs time but does no harm.
///
/// Packed as `state/descriptors` of the shim stores them. Every call reads them, and most calls
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
    pub const REFUSES_NOWAIT_READ: Self = Self(1 << 5);
    /// O_APPEND
    pub const APPEND: Self = Self(1 << 6);
    /// A socket with SO_RCVTIMEO, SO_SNDTIMEO or SO_RCVLOWAT: `calls::net` looks up how long a call
    /// may block.
    pub const HAS_TIMEOUT: Self = Self(1 << 7);

    /// It has answered an attempt, so it supports RWF_NOWAIT. Kept for streams, and for files that
    /// are read at an offset.
    pub const NOWAIT_KNOWN: Self = Self(1 << 30);
    /// The file refuses RWF_NOWAIT for writes. An eventfd does so although it supports it for
    /// reads.
    pub const REFUSES_NOWAIT_WRITE: Self = Self(1 << 31);

    /// The position of the count of attempts to skip: one byte, whose sign is the direction. The
    /// bits above belong to `state/descriptors` of the shim.
    const SKIP: u32 = 8;

    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flag that says that the file refuses attempts in this direction.
    #[inline(always)]
    pub const fn refuses_nowait(direction: Direction) -> Self {
        match direction {
            Direction::Read => Self::REFUSES_NOWAIT_READ,
            Direction::Write => Self::REFUSES_NOWAIT_WRITE,
        }
    }

    /// The facts that were not learned, as a trace stores them: the flags in order, with the last
    /// two moved next to the others.
    pub const fn kind(self) -> u16 {
        (self.0 & 0xff) as u16 | ((self.0 >> 30) as u16) << 8
    }

    /// The inverse of [`Self::kind`].
    #[allow(dead_code, reason = "for the simulation, which includes this file")]
    pub const fn from_kind(kind: u16) -> Self {
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
    pub const fn contains(self, what: Self) -> bool {
        self.0 & what.0 == what.0
    }

    /// Whether any fact of `what` holds.
    #[inline(always)]
    pub const fn intersects(self, what: Self) -> bool {
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
    pub const fn skips(self, direction: Direction) -> bool {
        let signed = self.0 as i16;
        match direction {
            Direction::Read => signed >= 1 << Self::SKIP,
            Direction::Write => signed < 0,
        }
    }

    /// `skip` is at most 64.
    #[must_use]
    pub const fn with_skip(self, direction: Direction, skip: u8) -> Self {
        let sign = match direction {
            Direction::Write if skip > 0 => 0x80,
            _ => 0,
        };
        Self(self.0 & !(0xff << Self::SKIP) | ((skip & 0x7f | sign) as u32) << Self::SKIP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tries_to_skip_share_their_word_with_the_flags() {
        let hint = Hint::STREAM
            .with(Hint::NOWAIT_KNOWN)
            .with_skip(Direction::Read, 64);
        assert_eq!(
            (
                hint.skip(),
                hint.contains(Hint::STREAM.with(Hint::NOWAIT_KNOWN))
            ),
            (64, true)
        );
        assert_eq!(
            hint.with_skip(Direction::Read, 0),
            Hint::STREAM.with(Hint::NOWAIT_KNOWN)
        );
        assert_eq!(hint.kind(), 0x102);
    }
}
