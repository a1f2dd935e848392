//! Decides how to open a file, from what a thread's previous opens have taught: a pure value.
//!
//! An open either finds its whole path in the kernel's caches, or must look names up in the file
//! system. Even that usually takes only microseconds, because the directory's blocks are cached:
//! less than handing the call to a kernel thread. The hand-over only pays if a disk was accessed
//! recently.

#![forbid(unsafe_code)]

use super::{BATCH, Contention, Decision, Direction, Learned, Reason};

/// An open that took longer than this many nanoseconds has waited for a disk.
pub const SLOW_OPEN_NS: u64 = 50_000;

/// The lessons of a thread's opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opens {
    /// Whether the kernel has the names cached; learned from attempts.
    names: Learned,
    /// Whether looking names up or creating files waits for the disk; learned from timed calls.
    disk: Learned,
}

impl Opens {
    pub const NOTHING: Self = Self {
        names: Learned::NOTHING,
        disk: Learned::NOTHING,
    };

    /// Decides about an open. `changes` says that it may create or truncate a file, which an
    /// attempt refuses.
    pub fn decide(self, contention: Contention, changes: bool) -> Decision {
        match contention {
            Contention::SoleFiber => Decision::PassThrough(Reason::Alone),
            // It may wait for a disk but not for a peer, so it is not quite the plain call.
            Contention::NoneNow => Decision::Inline,
            Contention::OthersRunnable if changes => self.untried(),
            // If the disk is slow, a failed attempt costs little in comparison.
            Contention::OthersRunnable if self.names.skip == 0 || self.disk.skip > 0 => {
                Decision::Attempt
            }
            Contention::OthersRunnable => Decision::Inline,
        }
    }

    /// Decides about an open that cannot be attempted, or whose attempt missed.
    pub fn untried(self) -> Decision {
        if self.disk.skip > 0 {
            Decision::Submit
        } else {
            Decision::Inline
        }
    }

    /// Records whether an attempt found the whole path. A hit saves nothing over the plain call, so
    /// no misses are tolerated, as with a large batch.
    #[must_use]
    #[inline]
    pub fn tried(self, hit: bool) -> Self {
        if hit && self.names == Learned::NOTHING {
            return self;
        }
        let names = if hit {
            self.names.hit(Direction::Read, BATCH)
        } else {
            self.names.missed(Direction::Read, BATCH)
        };
        Self { names, ..self }
    }

    /// Records that the call was made, and whether it waited for a disk.
    #[must_use]
    pub fn made(self, slow: bool) -> Self {
        let names = self.names.submitted(Direction::Read);
        let disk = if slow {
            self.disk.missed(Direction::Write, 0)
        } else {
            self.disk.hit(Direction::Write, 0)
        };
        Self { names, disk }
    }

    /// Records that the call was submitted.
    #[must_use]
    pub fn submitted(self) -> Self {
        Self {
            disk: self.disk.submitted(Direction::Write),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_fiber_waits_for_a_disk_itself() {
        let slow = Opens::NOTHING.made(true);
        assert_eq!(
            slow.decide(Contention::SoleFiber, true),
            Decision::PassThrough(Reason::Alone)
        );
        assert_eq!(slow.decide(Contention::NoneNow, true), Decision::Inline);
    }

    #[test]
    fn names_the_kernel_has_forgotten_are_looked_up_at_once_and_hardly_tried() {
        let (mut opens, mut tries) = (Opens::NOTHING, 0);
        for _ in 0..1000 {
            if opens.decide(Contention::OthersRunnable, false) == Decision::Attempt {
                tries += 1;
                opens = opens.tried(false);
                assert_eq!(opens.untried(), Decision::Inline);
            }
            opens = opens.made(false);
        }
        assert!(tries < 25, "{tries}");
    }

    #[test]
    fn what_is_known_is_tried_on_and_on() {
        let mut opens = Opens::NOTHING;
        for _ in 0..100 {
            assert_eq!(
                opens.decide(Contention::OthersRunnable, false),
                Decision::Attempt
            );
            opens = opens.tried(true);
        }
        assert_eq!(opens, Opens::NOTHING);
    }

    #[test]
    fn a_slow_disk_is_for_the_engine_and_asked_again_ever_more_rarely() {
        let (mut opens, mut blocked) = (Opens::NOTHING, 0);
        for _ in 0..1000 {
            if opens.decide(Contention::OthersRunnable, false) == Decision::Attempt {
                opens = opens.tried(false);
            }
            opens = match opens.untried() {
                Decision::Submit => opens.submitted(),
                _ => {
                    blocked += 1;
                    opens.made(true)
                }
            };
        }
        assert!(blocked < 25, "{blocked}");
        assert_eq!(
            opens.decide(Contention::OthersRunnable, true),
            Decision::Submit
        );
        while opens.untried() == Decision::Submit {
            opens = opens.submitted();
        }
        assert_eq!(opens.made(false).untried(), Decision::Inline);
    }

    #[test]
    fn on_a_slow_disk_names_are_tried_whatever_the_tries_taught() {
        let opens = Opens::NOTHING.tried(false).tried(false).made(true);
        assert_eq!(
            opens.decide(Contention::OthersRunnable, false),
            Decision::Attempt
        );
    }
}
