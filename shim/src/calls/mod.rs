//! The calls as their C callers see them: arguments, result, errno, file position. A file a group of calls.
//!
//! A function here is named in its rows of [`crate::hooks`]. It runs on a fiber, gets the [`Call`](crate::call::Call)
//! and libc's arguments, and returns an [`Outcome`]; the hook turns that into a result and errno, or makes libc's call.

pub mod file;
pub mod names;
pub mod open;
pub mod rw;

use crate::errno::Errno;
use crate::policy::Why;

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

/// A result as the C function returns it: -1 is the only error, its number in errno.
pub trait CResult {
    fn from_done(result: isize) -> Self;

    /// Whether it stands for an error, with its number in errno.
    fn is_failure(&self) -> bool;
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

impl<T> CResult for *mut T {
    /// Only ever an error here.
    fn from_done(_: isize) -> Self {
        std::ptr::null_mut()
    }

    fn is_failure(&self) -> bool {
        self.is_null()
    }
}
