//! The state of a fiber's cancellation.
//!
//! Invariant: a fiber acts on a request once, and only where it calls [`Cancellation::check`].

use crate::errno::Errno;
use core::sync::atomic::{AtomicU8, Ordering};

/// Cancellation was requested.
const REQUESTED: u8 = 1;
/// Cancellation is disabled (`FIBER_CANCEL_DISABLE`).
const DISABLED: u8 = 2;
/// The fiber is acting on a request and about to end.
const ACTING: u8 = 4;
/// It is a Rust fiber, which unwinds.
const UNWINDS: u8 = 8;

/// The bits above, in one atomic byte.
pub(crate) struct Cancellation(AtomicU8);

impl Cancellation {
    pub(crate) const fn new() -> Cancellation {
        Cancellation(AtomicU8::new(0))
    }

    /// Resets the state for a new fiber. `unwinds` says whether it is a Rust fiber.
    #[inline(always)]
    pub(crate) fn reset(&self, unwinds: bool) {
        self.0
            .store(if unwinds { UNWINDS } else { 0 }, Ordering::Relaxed);
    }

    /// Returns `ECANCELED` if the running fiber must act on a request now. The C and the Rust API
    /// then end the fiber.
    #[inline(always)]
    pub(crate) fn check(&self) -> Result<(), Errno> {
        if self.0.load(Ordering::Relaxed) & !UNWINDS == REQUESTED {
            Err(Errno::ECANCELED)
        } else {
            Ok(())
        }
    }

    /// Requests the cancellation.
    pub(crate) fn request(&self) {
        self.0.fetch_or(REQUESTED, Ordering::SeqCst);
    }

    /// Enables or disables it. Returns whether it was enabled before.
    pub(crate) fn set_enabled(&self, enabled: bool) -> bool {
        let before = if enabled {
            self.0.fetch_and(!DISABLED, Ordering::Relaxed)
        } else {
            self.0.fetch_or(DISABLED, Ordering::Relaxed)
        };
        before & DISABLED == 0
    }

    /// Records that the fiber is about to end.
    pub(crate) fn begin_acting(&self) {
        self.0.fetch_or(ACTING, Ordering::Relaxed);
    }

    /// Returns whether it is a Rust fiber, which unwinds when it is cancelled.
    pub(crate) fn unwinds(&self) -> bool {
        self.0.load(Ordering::Relaxed) & UNWINDS != 0
    }
}
