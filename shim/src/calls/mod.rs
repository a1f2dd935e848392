//! The calls as their C callers see them: arguments, result, errno, file position. A file a group
//! of calls.
//!
//! A function here is named in its rows of [`crate::hooks`]. It runs on a fiber, gets the
//! [`Call`](crate::call::Call) and libc's arguments, and returns an [`Outcome`]; the hook turns
//! that into a result and errno, or makes libc's call.

pub mod clone;
pub mod connect;
pub mod converse;
pub mod directory;
pub mod file;
pub mod flock;
pub mod ipc;
pub mod locale;
pub mod locks;
pub mod mmsg;
pub mod name;
pub mod net;
pub mod offload;
pub mod open;
pub mod paced;
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
pub mod unbounded;
pub mod walk;

use crate::errno::{self, Errno};
use crate::policy::Why;
use std::ffi::c_int;

/// What became of a call.
pub enum Outcome {
    /// Done: its result, or its error number.
    Done(Result<isize, Errno>),
    /// Not ours: libc's own function does it.
    Through(Why),
}

impl Outcome {
    /// Of a completion's result.
    fn of_completion(result: i32) -> Self {
        Self::Done(if result < 0 {
            Err(Errno::of(result))
        } else {
            Ok(result as isize)
        })
    }
}

/// A result as the C function returns it: -1, or null, is the only error, its number in errno.
/// Functions that return error numbers give them as results.
pub trait CResult {
    fn from_done(result: isize) -> Self;

    /// Whether it stands for an error, with its number in errno.
    fn is_failure(&self) -> bool;

    /// The error's number, after a failure.
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

    /// Of sleep(3): what is left.
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
    /// An address, or null for -1.
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
