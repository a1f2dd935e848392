//! Whether reads may be plain calls because so many in a row have found their data in the page
//! cache: a pure value.
//!
//! A non-blocking attempt that hits takes a sixth longer than the plain call. A plain call that
//! misses blocks all fibers of its thread for an access of the disk. So a thread earns plain calls
//! by a long streak of hits, and one that waits ends the streak. The next streak must be so long
//! that the wait is a sixtieth of its time. So whatever the program does after its first such wait,
//! plain calls that wait for [`SLOW_READ_NS`] or more block the thread for less than two percent of
//! its time.

#![forbid(unsafe_code)]

/// A plain read that took longer than this many nanoseconds may have waited for a disk. Waits for
/// faster devices take hardly longer than an asynchronous operation.
pub const SLOW_READ_NS: u64 = 20_000;

/// The fewest hits in a row before reads are plain calls.
const SHORTEST: u32 = 10_000;

/// A streak has a hit for each so many nanoseconds of the last wait. A hit takes 600 ns or more.
const WAIT_NS_PER_HIT: u64 = 10;

/// The hits in a row of a thread's attempts to read files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Streak {
    /// The hits that are missing.
    missing: u32,
    /// The length of a long streak.
    length: u32,
}

impl Streak {
    pub const NONE: Self = Self {
        missing: SHORTEST,
        length: SHORTEST,
    };

    /// Whether reads may be plain calls.
    #[inline(always)]
    pub const fn is_long(self) -> bool {
        self.missing == 0
    }

    /// An attempt hit.
    #[must_use]
    #[inline(always)]
    pub const fn hit(self) -> Self {
        Self {
            missing: self.missing.saturating_sub(1),
            ..self
        }
    }

    /// An attempt missed.
    #[must_use]
    pub const fn missed(self) -> Self {
        Self {
            missing: self.length,
            ..self
        }
    }

    /// A plain call waited for this many nanoseconds.
    #[must_use]
    pub fn waited(self, nanos: u64) -> Self {
        let length = u32::try_from(nanos / WAIT_NS_PER_HIT).unwrap_or(u32::MAX);
        let length = length.max(SHORTEST);
        Self {
            missing: length,
            length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(hits: u32, streak: Streak) -> Streak {
        (0..hits).fold(streak, |streak, _| streak.hit())
    }

    #[test]
    fn ten_thousand_hits_in_a_row_are_long_and_a_miss_ends_them() {
        let almost = after(SHORTEST - 1, Streak::NONE);
        assert!(!almost.is_long() && almost.hit().is_long() && almost.hit().hit().is_long());
        assert_eq!(almost.missed(), Streak::NONE);
        assert_eq!(almost.hit().missed(), Streak::NONE);
    }

    #[test]
    fn a_long_wait_takes_a_longer_streak_and_a_short_one_does_not() {
        const DISK_NS: u64 = 10_000_000;
        let long = after(SHORTEST, Streak::NONE);
        assert_eq!(long.waited(SLOW_READ_NS), Streak::NONE);
        let waited = long.waited(DISK_NS);
        let needed = (DISK_NS / WAIT_NS_PER_HIT) as u32;
        assert!(!after(needed - 1, waited).is_long() && after(needed, waited).is_long());
        assert_eq!(after(5, waited).missed(), waited);
        assert!(!after(1, long.waited(u64::MAX)).is_long());
    }

    #[test]
    fn whatever_misses_plain_calls_block_for_less_than_two_percent() {
        const HIT_NS: u64 = 600;
        for wait in [SLOW_READ_NS, 70_000, 10_000_000] {
            for every in [100, 10_001, 30_000, 2_000_000] {
                let (mut streak, mut blocked, mut total) = (Streak::NONE, 0, 0);
                for read in 1..=5_000_000_u64 {
                    let misses = read % every == 0;
                    total += HIT_NS;
                    streak = match (streak.is_long(), misses) {
                        (true, true) => {
                            blocked += wait;
                            total += wait;
                            streak.waited(wait)
                        }
                        (_, true) => streak.missed(),
                        (_, false) => streak.hit(),
                    };
                }
                // The first wait is not expected to be so long.
                assert!(
                    blocked <= wait + total / 50,
                    "{wait} {every}: {blocked} of {total}"
                );
            }
        }
    }
}
