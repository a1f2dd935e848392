//! Attaches a green-thread scheduler to `libaioshim.so`.
//!
//! The library is preloaded or absent, never linked. A scheduler implements [`Host`] and calls
//! [`attach`] on each OS thread that runs fibers. It polls the [`Attachment`] once a round and when
//! nothing is runnable. From then on, a blocking libc call that a fiber makes, `std::fs::read` for
//! example, becomes an asynchronous operation, and other fibers run until it completes. Without the
//! library, [`attach`] fails and the scheduler runs as before.
//!
//! docs/hosts.md of the project explains how to attach a scheduler; docs/host-table.md describes
//! each callback and function. The example `sleepers` is a complete scheduler.

mod attachment;
mod table;
mod waker;

pub use attachment::{Attachment, Limit, SavedValues, SleepLimit, attach};
pub use waker::Waker;

use std::ffi::{CStr, c_void};
use std::fmt;
use std::ptr::NonNull;

/// Names a fiber: any address that belongs to it alone for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FiberId(pub NonNull<c_void>);

impl FiberId {
    /// The address of `fiber` as its name.
    pub fn of<T>(fiber: &T) -> Self {
        Self(NonNull::from(fiber).cast())
    }
}

/// Whether blocking the thread would delay another fiber ([`Host::contention`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contention {
    /// It might.
    Others,
    /// No other fiber can become runnable for some 5 ms, unless another thread wakes it.
    NoneNow,
    /// The running fiber is the only living one of its thread.
    SoleFiber,
}

/// Properties of a host, combined by `|`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(u64);

impl Flags {
    /// libc handles the locks of the fibers, so waiting for one blocks the thread.
    pub const PLAIN_LOCKS: Self = Self(1);
    /// In the child of a fork only the fiber that forked runs.
    pub const FORKS: Self = Self(2);
    const SLEEPS_IN_POLL: Self = Self(4);
    /// A fiber does not yield in a call that does not wait.
    pub const NO_YIELDS: Self = Self(8);
    /// No properties.
    pub const NONE: Self = Self(0);

    /// `self` and `other`; `|` in constants.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

/// A scheduler, as the shim sees it: one value for each OS thread that runs fibers.
///
/// The shim calls these functions on the attached thread only, one at a time, from a fiber or from
/// [`Attachment::poll`]. They must not call the attachment, except [`park`](Self::park), from which
/// the scheduler runs. A panic in one of them ends the process.
///
/// # Safety
/// The kernel writes to buffers on the stacks of parked fibers. The implementation guarantees that
/// - [`park`](Self::park) returns only after `unpark` of the same fiber, and on the same OS thread;
/// - until then the fiber's stack stays in place, and nothing runs on it;
/// - [`running`](Self::running) names the fiber on whose stack the caller runs, or none if it runs
///   on the scheduler's own stack.
pub unsafe trait Host {
    /// The name and version of the library, for the statistics.
    const LIBRARY: Option<&'static CStr> = None;
    /// Properties of the scheduler.
    const FLAGS: Flags = Flags::NONE;
    /// Every switch keeps each fiber's C++ exceptions and locale apart.
    const KEEPS_RUNTIMES: bool = false;
    /// [`yield_now`](Self::yield_now) is implemented. Otherwise the shim yields by `unpark` of the
    /// running fiber and `park`.
    const YIELDS: bool = false;

    /// The running fiber; None on the scheduler's own stack. Called at every converted call, so it
    /// should be a plain load.
    fn running(&self) -> Option<FiberId>;

    /// Switches away from the running fiber, and returns on it after its `unpark`. If that came
    /// just before, this is a yield.
    fn park(&self);

    /// Puts `fiber`, which is parked or about to park, at the end of the run queue.
    fn unpark(&self, fiber: FiberId);

    /// How many fibers could run now, not counting the running one. Called at every converted call.
    fn runnable(&self) -> usize;

    /// Whether blocking the thread would delay another fiber. Called when nothing is runnable.
    fn contention(&self) -> Contention {
        Contention::Others
    }

    /// Lets the other runnable fibers run, and returns when it is the running fiber's turn again.
    /// Called if [`YIELDS`](Self::YIELDS) is true.
    fn yield_now(&self) {}

    /// If the running fiber is cancelled, may end it by a panic-free switch that never returns. The
    /// call continues if this returns.
    fn cancelled(&self) {}

    /// Called on the attached thread before it is attached: a function that ends the thread's sleep
    /// outside of [`Attachment::poll_until`], from any thread and in a signal handler too. None if
    /// the thread sleeps only there, or on the descriptor of [`Attachment::fd`].
    fn waker(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        None
    }
}

/// Why a thread is not attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The library is not preloaded.
    Absent,
    /// The thread is attached already.
    Attached,
    /// The library is switched off (`AIOSHIM=off`), or a seccomp filter blocks its system calls.
    Off,
    /// This error number.
    Other(i32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("libaioshim.so is not preloaded"),
            Self::Attached => f.write_str("this thread is attached to libaioshim.so already"),
            Self::Off => f.write_str("libaioshim.so is switched off"),
            Self::Other(number) => {
                let error = std::io::Error::from_raw_os_error(*number);
                write!(f, "libaioshim.so refuses the thread: {error}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// The version of the preloaded library, as `[major, minor, patch]`.
pub fn version() -> Option<[u32; 3]> {
    let version = (table::functions()?.version)();
    Some([version >> 16, version >> 8 & 0xff, version & 0xff])
}

/// What the preloaded library supports: the flags of the host that it heeds, and the
/// `AIOSHIM_FEATURE_*` bits of aioshim.h. Functions of [`Attachment`] that it lacks do nothing or
/// fail with `Unsupported`.
pub fn features() -> Option<u64> {
    let first_version =
        Flags::PLAIN_LOCKS | Flags::FORKS | Flags::SLEEPS_IN_POLL | Flags::NO_YIELDS;
    let features = table::functions()?.features;
    Some(features.map_or(first_version.0, |features| features()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_a_thread_is_not_attached_and_the_reason_is_told() {
        struct Nobody;
        // SAFETY: no fiber ever runs.
        unsafe impl Host for Nobody {
            fn running(&self) -> Option<FiberId> {
                None
            }
            fn park(&self) {}
            fn unpark(&self, _: FiberId) {}
            fn runnable(&self) -> usize {
                0
            }
        }
        assert_eq!(version(), None);
        let refused = attach(std::rc::Rc::new(Nobody)).err();
        assert_eq!(refused, Some(Error::Absent));
        assert_eq!(Error::Absent.to_string(), "libaioshim.so is not preloaded");
    }

    #[test]
    fn flags_are_those_of_the_header() {
        assert_eq!(Flags::PLAIN_LOCKS | Flags::NO_YIELDS, Flags(9));
        assert_eq!(Flags::FORKS.and(Flags::SLEEPS_IN_POLL), Flags(6));
    }
}
