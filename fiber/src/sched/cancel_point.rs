//! Cancellation points: where a fiber acts on a request to cancel it.
//!
//! On a C fiber, the cleanup handlers run and the fiber ends without unwinding its stack. A Rust
//! fiber unwinds, because its stack holds values to drop.
//!
//! Invariant: a fiber acts on a request once, and only at a cancellation point.

use super::switching;
use crate::errno::Errno;
use crate::record::fiber::Fiber;
use crate::record::unwind::Cleanup;
use crate::worker::current::{self, on_fiber};
use crate::worker::state::Worker;
use core::ffi::c_void;

/// `FIBER_CANCELED`.
const CANCELED: *mut c_void = usize::MAX as *mut c_void;

/// Implements `fiber_setcancelstate`. Returns whether cancellation was enabled before.
pub(crate) fn set_enabled(enabled: bool) -> Result<bool, Errno> {
    Ok(on_fiber()?.running().cancellation.set_enabled(enabled))
}

/// Ends the running C fiber if `result` is `ECANCELED`. Otherwise returns `result`.
#[inline(always)]
pub(crate) fn act_on(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ECANCELED) => act(),
        other => other,
    }
}

#[cold]
fn act() -> Result<(), Errno> {
    if let Some(worker) = current::worker()
        && !worker.running().cancellation.unwinds()
    {
        exit(worker, CANCELED);
    }
    // This is C code on a Rust fiber. The Rust frames below must not be skipped, so the fiber
    // continues until it returns to Rust.
    Err(Errno::ECANCELED)
}

/// Runs the cleanup handlers of the running fiber and ends it.
pub(crate) fn exit(worker: &Worker, result: *mut c_void) -> ! {
    run_cleanups(worker.running());
    if let Some(shim) = worker.shim() {
        shim.leaving();
    }
    switching::exit(worker, result)
}

/// Runs the cleanup handlers of the running fiber, which is about to end.
pub(crate) fn run_cleanups(me: &Fiber) {
    me.cancellation.begin_acting();
    while let Some(cleanup) = me.locals.top_cleanup() {
        // SAFETY: a handler that is not popped lies in a frame of this fiber that has not returned.
        let Cleanup { routine, arg, next } = unsafe { cleanup.read() };
        me.locals.set_top_cleanup(next);
        routine(arg);
    }
}

/// The panic payload with which a cancelled Rust fiber unwinds, and which its join returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// Runs a wait of a Rust fiber and unwinds if the fiber was cancelled in it. During a panic, the
/// wait is repeated with cancellation disabled.
#[inline(always)]
pub(crate) fn unwinding<T>(wait: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match wait() {
        Err(Errno::ECANCELED) => unwind(wait),
        result => result,
    }
}

#[cold]
fn unwind<T>(wait: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    if std::thread::panicking() {
        let enabled = set_enabled(false)?;
        let result = wait();
        if enabled {
            set_enabled(true)?;
        }
        return result;
    }
    on_fiber()?.running().cancellation.begin_acting();
    std::panic::resume_unwind(Box::new(Cancelled))
}
