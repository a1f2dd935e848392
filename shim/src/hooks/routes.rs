//! How a call is made on a fiber: the routes of the table as functions. Each returns the result, or
//! None if libc must make the call.

use super::enter::Hook;
use crate::calls::results::{self, Room};
use crate::calls::via::offload;
use crate::calls::{CResult, Outcome};
use crate::runtime::call::{Call, LastLook};
use policy::Why;
use std::ffi::{c_int, c_void};
use sys::errno;

/// A libc function with the route `Convert`.
pub trait Converted: Hook {
    /// Makes the call once.
    fn handle(call: &Call<'_>, arguments: Self::Arguments) -> Outcome;
}

/// By a function of the shim. An interrupted call is restarted as its handlers require.
#[inline(always)]
pub fn convert<H: Converted>(call: &Call<'_>, arguments: H::Arguments) -> Option<H::Result> {
    let mut look = LastLook::new();
    loop {
        match H::handle(call, arguments) {
            Outcome::Done(Ok(result)) => return Some(H::Result::from_done(result)),
            Outcome::Done(Err(error)) => {
                if call.begins_anew(error, &mut look) {
                    continue;
                }
                errno::set(error.of_c());
                return Some(H::Result::from_done(-1));
            }
            Outcome::Through(why) => {
                call.through_row(H::INDEX, why);
                return None;
            }
        }
    }
}

/// The libc function, on a pool thread if it may block.
#[inline(always)]
pub fn offload<H: Hook>(call: &Call<'_>, arguments: H::Arguments) -> Option<H::Result> {
    if !H::may_block(arguments) {
        call.through(Why::Quick);
        return None;
    }
    let function = || {
        // SAFETY: the libc function, with its caller's arguments, while that call lasts.
        unsafe { H::call(arguments) }
    };
    match H::file(arguments) {
        Some(fd) => offload::whole_on(call, fd, function),
        None => offload::whole(call, function),
    }
}

/// The reentrant twin of a function whose result is in static memory. `ask` calls the twin with
/// these buffers.
#[inline(always)]
pub fn record<H: Hook>(call: &Call<'_>, ask: impl Fn(&Room) -> c_int) -> Option<*mut c_void> {
    Some(results::look_up(call, H::INDEX, ask))
}
