//! What fibers wait on. Each file has the object behind the C type and, thin above it, the Rust
//! type.
//!
//! Locks and waits belong to fibers: off a fiber the objects answer `EPERM`, and the Rust types
//! panic.

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

use crate::errno::Errno;
use crate::timer::{self, Instant};
use crate::tls;
use crate::worker::Worker;
use std::time::Duration;

/// The worker whose fiber the caller is; `EPERM` off a fiber.
#[inline(always)]
pub(crate) fn on_fiber() -> Result<&'static Worker, Errno> {
    tls::worker()
        .filter(|w| !w.current.get().is_null())
        .ok_or(Errno::EPERM)
}

/// Until when a wait lasts; asked for only if there is one.
pub(crate) trait Until {
    fn instant(self) -> Result<Instant, Errno>;
}

/// Without limit.
pub(crate) struct Forever;

impl Until for Forever {
    #[inline(always)]
    fn instant(self) -> Result<Instant, Errno> {
        Ok(timer::NEVER)
    }
}

/// A C deadline on a clock.
#[derive(Clone, Copy)]
pub(crate) struct At<'a>(pub libc::clockid_t, pub &'a libc::timespec);

impl Until for At<'_> {
    fn instant(self) -> Result<Instant, Errno> {
        timer::deadline(self.0, self.1)
    }
}

impl Until for Duration {
    fn instant(self) -> Result<Instant, Errno> {
        let ns = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        Ok(timer::now().saturating_add(ns).min(timer::NEVER - 1))
    }
}

/// For the Rust types, whose misuse is a bug in the program.
#[cold]
#[track_caller]
pub(crate) fn misuse(what: &str, e: Errno) -> ! {
    match e {
        Errno::EPERM => panic!("{what}: not on a fiber"),
        e => panic!("{what}: {e}"),
    }
}
