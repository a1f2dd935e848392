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

use super::{Alone, Decision, Load, Why};

/// A call that took longer than this has blocked, or delayed the thread as if it had. It equals the
/// cost of five hand-overs.
pub const SLOW_NS: u64 = 50_000;

/// The share of slow calls among the last calls of a kind, in units of 1/31. The newest call weighs
/// a quarter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace(u8);

impl Pace {
    pub const QUICK: Self = Self(0);
    const SLOW: u8 = 31;

    pub const fn of_bits(bits: u8) -> Self {
        Self(if bits > Self::SLOW { Self::SLOW } else { bits })
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Records that one more call took `nanos`, on any thread.
    #[must_use]
    #[inline(always)]
    pub fn took(self, nanos: u64) -> Self {
        if nanos > SLOW_NS {
            Self(self.0 + (Self::SLOW - self.0).div_ceil(4))
        } else {
            Self(self.0 - self.0.div_ceil(4))
        }
    }
}

/// The kind of a call that can run either inline or on the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
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

impl Kind {
    pub const COUNT: usize = Self::Flush as usize + 1;
}

/// Decides about a call of this kind, whose previous calls went at this pace.
#[inline(always)]
pub fn paced(kind: Kind, pace: Pace, load: Load) -> Decision {
    if load.alone != Alone::No {
        // The call waits for a disk at most, and that delays no fiber.
        Decision::Through(Why::Alone)
    } else if kind == Kind::Flush || pace != Pace::QUICK {
        Decision::Submit
    } else {
        Decision::Copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BESIDE: Load = Load {
        batch: 1,
        alone: Alone::No,
    };
    const QUICK_NS: u64 = 1500;
    const DISK_NS: u64 = 100_000;

    /// Returns how many calls were offloaded, and how many slow calls ran inline.
    fn replay(calls: impl IntoIterator<Item = u64>) -> (u32, u32) {
        let (mut pace, mut handed, mut blocked) = (Pace::QUICK, 0, 0);
        for nanos in calls {
            match paced(Kind::Lookup, pace, BESIDE) {
                Decision::Submit => handed += 1,
                _ => blocked += u32::from(nanos > SLOW_NS),
            }
            pace = pace.took(nanos);
        }
        (handed, blocked)
    }

    #[test]
    fn quick_calls_stay_inline_among_many_and_few() {
        assert_eq!(replay([QUICK_NS; 1000]), (0, 0));
    }

    #[test]
    fn a_slow_call_costs_six_hand_overs_after_it_and_no_more() {
        let calls = (0..1000).map(|i| if i == 100 { DISK_NS } else { QUICK_NS });
        assert_eq!(replay(calls), (6, 1));
    }

    #[test]
    fn slow_calls_block_once() {
        assert_eq!(replay([DISK_NS; 1000]), (999, 1));
        let one_in_six = (0..1000).map(|i| if i % 6 == 0 { DISK_NS } else { QUICK_NS });
        assert_eq!(replay(one_in_six).1, 1);
    }

    #[test]
    fn what_was_cold_and_is_cached_comes_back_inline() {
        let calls = (0..1000).map(|i| if i < 500 { DISK_NS } else { QUICK_NS });
        let (handed, blocked) = replay(calls);
        assert!(
            handed < 520 && blocked == 1,
            "{handed} handed over, {blocked} blocked"
        );
    }

    #[test]
    fn a_lone_fiber_makes_the_plain_call_and_a_flush_never_is_quick() {
        for alone in [Alone::ForNow, Alone::Entirely] {
            let load = Load { batch: 0, alone };
            assert_eq!(
                paced(Kind::Flush, Pace::of_bits(31), load),
                Decision::Through(Why::Alone)
            );
        }
        assert_eq!(paced(Kind::Flush, Pace::QUICK, BESIDE), Decision::Submit);
    }

    #[test]
    fn a_pace_stays_within_its_bits() {
        let mut pace = Pace::QUICK;
        for nanos in [u64::MAX; 100] {
            pace = pace.took(nanos);
        }
        assert_eq!(pace.bits(), 31);
        assert_eq!(Pace::of_bits(200).took(0), Pace::of_bits(23));
    }
}
