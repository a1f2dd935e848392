//! What became of a request that a fiber waited for: its result, or why it has none.
//!
//! An operation stores this in the four bytes of a system call's result ([`StoredCompletion`]),
//! because it should be small. Everywhere else the reasons are variants, which cannot be mistaken
//! for an error of the kernel.

use sys::errno::Errno;

/// What became of a request: the result of its system call, or why it has none.
pub type Completion = Result<i32, Unfinished>;

/// Why a request, or a wait for one, ended without a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfinished {
    /// It failed with the kernel's error.
    Failed(Errno),
    /// Signal handlers must run, or the fiber was cancelled.
    Interrupted,
    /// Its deadline has passed.
    TimedOut,
    /// It was never made: no engine and no pool thread took it.
    NotDone,
}

impl Unfinished {
    /// Whether the engine did not do the request, as opposed to the request's own error. The fiber
    /// then makes the plain call.
    pub fn is_not_done(self) -> bool {
        matches!(
            self,
            Self::NotDone | Self::Failed(Errno::AGAIN | Errno::INTR)
        )
    }
}

impl From<Errno> for Unfinished {
    #[inline(always)]
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

/// A completion as an operation stores it: a result or a negative error number, as the kernel and
/// the executors report it, or the number of an early end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoredCompletion(i32);

impl StoredCompletion {
    /// Executors report a request that they did not carry out with the kernel's number for a
    /// cancelled one.
    pub const NOT_DONE: Self = Self(-libc::ECANCELED);
    /// The kernel's own ERESTARTSYS, which a completion of io_uring may contain.
    pub const INTERRUPTED: Self = Self(-512);
    /// Beyond the last number that the kernel uses for errors, 4095: a device may well fail with
    /// ETIME.
    pub const TIMED_OUT: Self = Self(-4096);

    /// What the executor reported.
    #[inline(always)]
    pub fn reported(result: i32) -> Self {
        Self(result)
    }

    #[inline(always)]
    pub fn decode(self) -> Completion {
        if self.0 >= 0 {
            Ok(self.0)
        } else {
            Err(self.unfinished())
        }
    }

    #[cold]
    #[inline(never)]
    fn unfinished(self) -> Unfinished {
        match self {
            Self::NOT_DONE => Unfinished::NotDone,
            Self::INTERRUPTED => Unfinished::Interrupted,
            Self::TIMED_OUT => Unfinished::TimedOut,
            Self(result) => Unfinished::Failed(Errno::of(result)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etime_from_a_device_is_not_a_timeout() {
        let reported = |result| StoredCompletion::reported(result).decode();
        assert_eq!(reported(4096), Ok(4096));
        assert_eq!(reported(0), Ok(0));
        assert_eq!(
            reported(-libc::ETIME),
            Err(Unfinished::Failed(Errno(libc::ETIME)))
        );
        assert_eq!(
            StoredCompletion::TIMED_OUT.decode(),
            Err(Unfinished::TimedOut)
        );
        assert_eq!(
            StoredCompletion::INTERRUPTED.decode(),
            Err(Unfinished::Interrupted)
        );
        assert_eq!(reported(-libc::ECANCELED), Err(Unfinished::NotDone));
    }
}
