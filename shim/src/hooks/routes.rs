//! How a call is made on a fiber: the routes of the table as functions. Each returns a
//! [`Verdict`].

use super::enter::Hook;
use crate::calls::results::{self, Room};
use crate::calls::via::offload;
use crate::calls::{CResult, Verdict};
use crate::runtime::call::Call;
use crate::runtime::restart::LastAttempt;
use policy::Reason;
use std::ffi::{c_int, c_void};
use sys::errno::Errno;

/// A libc function with the route `Convert`.
pub trait Converted: Hook {
    /// Makes the call once.
    fn handle(call: &Call<'_>, arguments: Self::Arguments) -> Verdict;
}

/// By a function of the shim. An interrupted call is restarted as its handlers require.
#[inline(always)]
pub fn convert<H: Converted>(call: &Call<'_>, arguments: H::Arguments) -> Verdict<H::Result> {
    let mut last = LastAttempt::new();
    loop {
        return match H::handle(call, arguments) {
            Verdict::Interrupted(restart) if call.continue_after_attempt(restart, &mut last) => {
                continue;
            }
            Verdict::Interrupted(_) | Verdict::Failed(Errno::INTR) if call.is_left_to_libc() => {
                Verdict::PassThrough(Reason::Alone)
            }
            Verdict::Failed(Errno::INTR) => {
                call.cancellation_point();
                Verdict::Failed(Errno::INTR)
            }
            verdict => verdict.map(H::Result::from_done),
        };
    }
}

/// The libc function, on a pool thread if it may block.
#[inline(always)]
pub fn offload<H: Hook>(call: &Call<'_>, arguments: H::Arguments) -> Verdict<H::Result> {
    if !H::may_block(arguments) {
        return Verdict::PassThrough(Reason::Quick);
    }
    let function = || {
        // SAFETY: the libc function, with its caller's arguments, while that call lasts.
        unsafe { H::call(arguments) }
    };
    match H::file(arguments) {
        Some(fd) => offload::call_libc_on(call, fd, function),
        None => offload::call_libc(call, function),
    }
}

/// The reentrant twin of a function whose result is in static memory. `query` calls the twin with
/// these buffers.
#[inline(always)]
pub fn record<H: Hook>(call: &Call<'_>, query: impl Fn(&Room) -> c_int) -> Verdict<*mut c_void> {
    Verdict::Done(results::look_up(call, H::INDEX, query))
}
