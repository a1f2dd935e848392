//! The objects that fibers wait on. Each file holds the object behind the C type and a thin Rust
//! type on top of it.
//!
//! Only fibers can lock and wait: off a fiber the objects return `EPERM`, and the Rust types panic.

mod barrier;
mod cond;
mod mutex;
mod once;
mod rwlock;
mod sem;

pub use barrier::{Barrier, BarrierWaitResult};
pub use cond::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use sem::Semaphore;

pub(crate) use barrier::RawBarrier;
pub(crate) use cond::RawCond;
pub(crate) use mutex::{Kind, RawMutex};
pub(crate) use once::RawOnce;
pub(crate) use rwlock::RawRwLock;
pub(crate) use sem::RawSem;

use crate::clock::{self, Instant};
use crate::errno::Errno;
use std::time::Duration;

/// The time limit of a wait. It is evaluated only if the call has to wait.
pub(crate) trait Until {
    fn instant(self) -> Result<Instant, Errno>;
}

/// No time limit.
pub(crate) struct Forever;

impl Until for Forever {
    #[inline(always)]
    fn instant(self) -> Result<Instant, Errno> {
        Ok(clock::NEVER)
    }
}

/// A deadline from C, on a clock.
#[derive(Clone, Copy)]
pub(crate) struct At<'a>(pub libc::clockid_t, pub &'a libc::timespec);

impl Until for At<'_> {
    fn instant(self) -> Result<Instant, Errno> {
        clock::deadline(self.0, self.1)
    }
}

impl Until for Duration {
    fn instant(self) -> Result<Instant, Errno> {
        let ns = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        Ok(clock::now().saturating_add(ns).min(clock::NEVER - 1))
    }
}

/// Panics with `e`: an error from the Rust types is a bug in the program.
#[cold]
#[track_caller]
pub(crate) fn misuse(what: &str, e: Errno) -> ! {
    match e {
        Errno::EPERM => panic!("{what}: not on a fiber"),
        e => panic!("{what}: {e}"),
    }
}
