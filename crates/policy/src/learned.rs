//! Whether non-blocking attempts on a descriptor pay off, learned from the previous ones: a pure
//! value.

#![forbid(unsafe_code)]

use super::{ATTEMPT_HIT_NS, ATTEMPT_MISS_NS, Direction, OPERATION_NS, SUBMISSION_NS};

/// The lessons of attempts in one direction on a descriptor. Reads and writes are unrelated: a cold
/// read or a slow peer says nothing about the next write, which would go to a kernel thread at ten
/// times the cost of the copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    pub direction: Direction,
    /// The number of attempts to skip.
    pub skip: u8,
    /// The number of misses since attempts last paid off; at most 7.
    pub misses: u8,
    /// The share of misses among the last attempts, in units of 1/[`Learned::ALL_MISSES`].
    pub miss_share: u8,
}

impl Learned {
    pub const NOTHING: Self = Self {
        direction: Direction::Read,
        skip: 0,
        misses: 0,
        miss_share: 0,
    };

    pub const ALL_MISSES: u8 = 31;

    /// The knowledge about `direction`; nothing if the last lesson was about the other direction.
    fn of(self, direction: Direction) -> Self {
        if self.direction == direction {
            self
        } else {
            Self {
                direction,
                ..Self::NOTHING
            }
        }
    }

    /// Records that an attempt missed the cache, or that a copy was throttled. If too many attempts
    /// miss to be worth it, the next ones are skipped: 1, 2, 4 ... 64 of them. The one after that
    /// probes again.
    #[must_use]
    pub fn missed(self, direction: Direction, batch: u32) -> Self {
        let before = self.of(direction);
        let miss_share = before.miss_share + (Self::ALL_MISSES - before.miss_share).div_ceil(4);
        if miss_share <= tolerated(direction, batch) {
            return Self {
                direction,
                skip: 0,
                misses: 0,
                miss_share,
            };
        }
        Self {
            direction,
            skip: 1 << before.misses.min(6),
            misses: (before.misses + 1).min(7),
            miss_share,
        }
    }

    /// Records that an attempt hit, or that a copy was quick.
    #[must_use]
    pub fn hit(self, direction: Direction, batch: u32) -> Self {
        if self.direction != direction {
            return self;
        }
        let miss_share = self.miss_share - self.miss_share.div_ceil(4);
        Self {
            skip: 0,
            misses: if miss_share <= tolerated(direction, batch) {
                0
            } else {
                self.misses
            },
            miss_share,
            ..self
        }
    }

    /// Records that a call was submitted without an attempt: one attempt less to skip.
    #[must_use]
    pub fn submitted(self, direction: Direction) -> Self {
        if self.direction != direction {
            return self;
        }
        Self {
            skip: self.skip.saturating_sub(1),
            ..self
        }
    }
}

/// The share of misses up to which attempts cost less than submitting at once. A miss costs a full
/// attempt. A hit saves the difference to a submission, which is smaller the larger the batch.
fn tolerated(direction: Direction, batch: u32) -> u8 {
    if direction == Direction::Write {
        // A throttled copy blocks the thread for longer than many submissions take.
        return 0;
    }
    let submission = OPERATION_NS + SUBMISSION_NS / (batch + 1);
    let saved = submission.saturating_sub(ATTEMPT_HIT_NS);
    (u32::from(Learned::ALL_MISSES) * saved / (saved + ATTEMPT_MISS_NS)) as u8
}

#[cfg(test)]
mod tests {
    use super::super::{BATCH, Contention, Decision, Hint, Load, Streak, read, write};
    use super::*;

    const PAGE: usize = 4096;
    const FILE: Hint = Hint::SEEKABLE;
    const FEW: Load = Load {
        batch: 1,
        contention: Contention::OthersRunnable,
    };

    /// Returns how many attempts these calls made one after another, and how many of them missed.
    fn tries(batch: u32, hits: impl IntoIterator<Item = bool>) -> (u32, u32) {
        let (mut learned, mut tries, mut misses) = (Learned::NOTHING, 0, 0);
        let load = Load { batch, ..FEW };
        for hit in hits {
            if read(
                FILE.with_skip(Direction::Read, learned.skip),
                load,
                PAGE,
                false,
                Streak::NONE,
            ) == Decision::Submit
            {
                learned = learned.submitted(Direction::Read);
                continue;
            }
            tries += 1;
            misses += u32::from(!hit);
            learned = if hit {
                learned.hit(Direction::Read, batch)
            } else {
                learned.missed(Direction::Read, batch)
            };
        }
        (tries, misses)
    }

    #[test]
    fn misses_in_a_row_skip_ever_more_tries_up_to_64() {
        let mut learned = Learned::NOTHING;
        let skips: Vec<u8> = std::iter::repeat_with(|| {
            learned = learned.missed(Direction::Read, 7);
            learned.skip
        })
        .take(9)
        .collect();
        assert_eq!(skips, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert!(learned.miss_share >= Learned::ALL_MISSES - 1);
        assert_eq!(learned.submitted(Direction::Read).skip, 63);
    }

    #[test]
    fn a_batch_is_worth_waiting_for_where_it_costs_less_than_a_try() {
        let submission = |batch| OPERATION_NS + SUBMISSION_NS / (batch + 1);
        assert!(submission(BATCH) < ATTEMPT_HIT_NS && submission(BATCH - 1) >= ATTEMPT_HIT_NS);
    }

    #[test]
    fn fewer_misses_are_tolerated_the_larger_the_batch() {
        let tolerated: Vec<u8> = (0..BATCH)
            .map(|batch| tolerated(Direction::Read, batch))
            .collect();
        assert!(tolerated.is_sorted_by(|a, b| a >= b), "{tolerated:?}");
        assert_eq!((tolerated[0], tolerated[7]), (16, 0));
    }

    #[test]
    fn readahead_is_tried_on_through_its_misses_and_what_is_cold_is_not() {
        let readahead = (0..1000).map(|i| i % 8 != 0);
        assert_eq!(tries(0, readahead.clone()), (1000, 125));
        assert_eq!(tries(1, readahead), (1000, 125));
        let (cold, _) = tries(0, [false; 1000]);
        assert!(cold < 25, "{cold} tries");
    }

    #[test]
    fn what_was_cold_and_is_cached_by_now_is_found_out() {
        let (tries, misses) = tries(0, (0..1000).map(|i| i >= 500));
        assert!(
            tries > 400 && misses < 20,
            "{tries} tries, {misses} in vain"
        );
    }

    #[test]
    fn what_reads_teach_is_nothing_to_writes() {
        let cold = Learned::NOTHING
            .missed(Direction::Read, 7)
            .missed(Direction::Read, 7);
        let hint = FILE.with_skip(cold.direction, cold.skip);
        assert_eq!(read(hint, FEW, PAGE, false, Streak::NONE), Decision::Submit);
        assert_eq!(write(hint, FEW, false), Decision::Inline);
        assert_eq!(cold.hit(Direction::Write, 0), cold);
        assert_eq!(cold.submitted(Direction::Write), cold);
        let throttled = cold.missed(Direction::Write, 0);
        let hint = hint.with_skip(throttled.direction, throttled.skip);
        assert_eq!(write(hint, FEW, false), Decision::Submit);
        assert_eq!(
            read(hint, FEW, PAGE, false, Streak::NONE),
            Decision::Attempt
        );
    }
}
