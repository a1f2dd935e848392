//! The calls as their C callers see them: arguments, result, errno, file position. There is one
//! file per group of calls.
//!
//! The rows of [`crate::hooks`] name the functions of this module. A function runs on a fiber, gets
//! the [`Call`](crate::runtime::call::Call) and libc's arguments, and returns an [`Outcome`]; the
//! hook turns that into a result and errno, or makes libc's call.

pub mod clone;
pub mod connect;
pub mod directory;
mod fifo;
pub mod file;
pub mod flock;
pub mod ipc;
pub mod locale;
pub mod locks;
mod message;
pub mod mmsg;
pub mod name;
pub mod net;
pub mod open;
pub mod poll;
pub mod process;
pub mod random;
pub mod resolver;
pub mod results;
pub mod rw;
pub mod select;
pub mod signal;
pub mod sleep;
pub mod slow_stream;
pub mod space;
pub mod splice;
pub mod stat;
pub mod statics;
pub mod stdio;
pub mod syscall;
pub mod system;
pub mod terminal;
pub mod thread_state;
mod transfer;
pub mod via;
pub mod walk;

use policy::Why;
use std::ffi::c_int;
use sys::errno::{self, Errno};

/// How a call was handled.
pub enum Outcome {
    /// Done, with its result or error number.
    Done(Result<isize, Errno>),
    /// Not done: libc's own function makes the call.
    Through(Why),
}

impl Outcome {
    /// Converts the result of a completion.
    fn of_completion(result: i32) -> Self {
        Self::Done(if result < 0 {
            Err(Errno::of(result))
        } else {
            Ok(result as isize)
        })
    }
}

/// A result as the C function returns it. Errors are -1 or null, with the number in errno.
/// Functions that return error numbers return them as ordinary results.
pub trait CResult {
    fn from_done(result: isize) -> Self;

    /// Whether the value is an error, whose number is in errno.
    fn is_failure(&self) -> bool;

    /// The error number after a failure.
    fn error(&self) -> c_int {
        errno::get()
    }
}

impl CResult for isize {
    fn from_done(result: isize) -> Self {
        result
    }

    fn is_failure(&self) -> bool {
        *self == -1
    }
}

impl CResult for i64 {
    fn from_done(result: isize) -> Self {
        result as Self
    }

    fn is_failure(&self) -> bool {
        *self == -1
    }
}

impl CResult for i32 {
    fn from_done(result: isize) -> Self {
        result as Self
    }

    fn is_failure(&self) -> bool {
        *self == -1
    }
}

impl CResult for u32 {
    fn from_done(result: isize) -> Self {
        result as Self
    }

    /// sleep(3) returns the remaining time, which is no error.
    fn is_failure(&self) -> bool {
        false
    }
}

impl CResult for () {
    fn from_done(_: isize) -> Self {}

    fn is_failure(&self) -> bool {
        false
    }
}

impl<T> CResult for *mut T {
    /// An address, or null if the result is -1.
    fn from_done(result: isize) -> Self {
        if result == -1 {
            std::ptr::null_mut()
        } else {
            std::ptr::with_exposed_provenance_mut(result as usize)
        }
    }

    fn is_failure(&self) -> bool {
        self.is_null()
    }
}
