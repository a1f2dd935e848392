//! Calls on file names and attributes: they run inline while they are quick, and on a pool thread
//! once they are slow.
//!
//! A lookup whose directories and inodes are cached takes a microsecond. Handing it to another
//! thread takes ten times that, also with io_uring, which hands all these calls to kernel threads.
//! A lookup that goes to a disk or a server takes a hundred or a thousand microseconds and delays
//! all fibers of its thread. Only the previous calls predict which kind the next one is. The cost
//! of the slow calls bounds the loss on quick calls after them: at most six offloaded calls after
//! the first slow one.

#![forbid(unsafe_code)]

use super::{Contention, Decision, Load, Reason};

/// A call that takes longer than this many nanoseconds is slow: it has blocked, or delayed the
/// thread as if it had. It equals the cost of five hand-overs.
pub const SLOW_NS: u64 = 50_000;

/// The share of slow calls among the last calls of a kind, in units of 1/31. The newest call weighs
/// a quarter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowRate(u8);

impl SlowRate {
    pub const FAST: Self = Self(0);
    const MAX: u8 = 31;

    pub const fn from_bits(bits: u8) -> Self {
        Self(if bits > Self::MAX { Self::MAX } else { bits })
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Records whether one more call, on any thread, was slow: it took more than
    /// [`SLOW_NS`] for reasons of its own.
    #[must_use]
    #[inline(always)]
    pub fn record(self, slow: bool) -> Self {
        if slow {
            Self(self.0 + (Self::MAX - self.0).div_ceil(4))
        } else {
            Self(self.0 - self.0.div_ceil(4))
        }
    }
}

/// The kind of a call that can run either inline or on the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CallKind {
    /// Looks up a name, or reads attributes.
    Lookup,
    /// Creates, removes or changes a name or attributes.
    Change,
    /// Reads a directory.
    Directory,
    /// Allocates or frees file space.
    Space,
    /// Copies bytes between files inside the kernel.
    Move,
    /// Always waits for a disk.
    Flush,
}

impl CallKind {
    pub const COUNT: usize = Self::Flush as usize + 1;
}

/// Decides about a call of this kind, whose previous calls were slow at this rate.
#[inline(always)]
pub fn adaptive(kind: CallKind, rate: SlowRate, load: Load) -> Decision {
    if load.contention != Contention::OthersRunnable {
        // The call waits for a disk at most, and that delays no fiber.
        Decision::PassThrough(Reason::Alone)
    } else if kind == CallKind::Flush || rate != SlowRate::FAST {
        Decision::Submit
    } else {
        Decision::Inline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        batch: 1,
        contention: Contention::OthersRunnable,
    };
    const FAST_NS: u64 = 1500;
    const DISK_NS: u64 = 100_000;

    /// Returns how many calls were offloaded, and how many slow calls ran inline.
    fn replay(calls: impl IntoIterator<Item = u64>) -> (u32, u32) {
        let (mut rate, mut offloaded, mut blocked) = (SlowRate::FAST, 0, 0);
        for nanos in calls {
            match adaptive(CallKind::Lookup, rate, LOAD) {
                Decision::Submit => offloaded += 1,
                _ => blocked += u32::from(nanos > SLOW_NS),
            }
            rate = rate.record(nanos > SLOW_NS);
        }
        (offloaded, blocked)
    }

    #[test]
    fn quick_calls_stay_inline_among_many_and_few() {
        assert_eq!(replay([FAST_NS; 1000]), (0, 0));
    }

    #[test]
    fn a_slow_call_costs_six_hand_overs_after_it_and_no_more() {
        let calls = (0..1000).map(|i| if i == 100 { DISK_NS } else { FAST_NS });
        assert_eq!(replay(calls), (6, 1));
    }

    #[test]
    fn slow_calls_block_once() {
        assert_eq!(replay([DISK_NS; 1000]), (999, 1));
        let one_in_six = (0..1000).map(|i| if i % 6 == 0 { DISK_NS } else { FAST_NS });
        assert_eq!(replay(one_in_six).1, 1);
    }

    #[test]
    fn what_was_cold_and_is_cached_comes_back_inline() {
        let calls = (0..1000).map(|i| if i < 500 { DISK_NS } else { FAST_NS });
        let (offloaded, blocked) = replay(calls);
        assert!(
            offloaded < 520 && blocked == 1,
            "{offloaded} handed over, {blocked} blocked"
        );
    }

    #[test]
    fn a_lone_fiber_makes_the_plain_call_and_a_flush_never_is_quick() {
        for contention in [Contention::NoneNow, Contention::SoleFiber] {
            let load = Load {
                batch: 0,
                contention,
            };
            assert_eq!(
                adaptive(CallKind::Flush, SlowRate::from_bits(31), load),
                Decision::PassThrough(Reason::Alone)
            );
        }
        assert_eq!(
            adaptive(CallKind::Flush, SlowRate::FAST, LOAD),
            Decision::Submit
        );
    }

    #[test]
    fn a_pace_stays_within_its_bits() {
        let mut rate = SlowRate::FAST;
        for nanos in [u64::MAX; 100] {
            rate = rate.record(nanos > SLOW_NS);
        }
        assert_eq!(rate.bits(), 31);
        assert_eq!(
            SlowRate::from_bits(200).record(false),
            SlowRate::from_bits(23)
        );
    }
}
