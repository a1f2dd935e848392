//! The verdict: what became of a call on a fiber. Every route of the call table ends in one, and
//! [`Verdict::settle`] turns it into the result that the C caller gets.

use super::call::Call;
use super::completion::{Completion, Unfinished};
use super::restart::Restart;
use policy::Reason;
use std::ffi::c_int;
use sys::errno::{self, Errno};

/// What became of a call. `R` is the result as the C function returns it; for calls that the shim
/// converts it is what the kernel returns.
#[must_use]
pub enum Verdict<R = isize> {
    /// Done, with its result.
    Done(R),
    /// Done, with an error: the C caller gets -1 or null, and the number in errno.
    Failed(Errno),
    /// Signals or the cancellation of its fiber interrupted the call before it had an effect. The
    /// handlers run, and decide whether it is restarted.
    Interrupted(Restart),
    /// Not done: libc's own function makes the call.
    PassThrough(Reason),
}

impl<R> Verdict<R> {
    /// The same with the result `change(result)`.
    pub fn map<S>(self, change: impl FnOnce(R) -> S) -> Verdict<S> {
        match self {
            Self::Done(result) => Verdict::Done(change(result)),
            Self::Failed(error) => Verdict::Failed(error),
            Self::Interrupted(restart) => Verdict::Interrupted(restart),
            Self::PassThrough(reason) => Verdict::PassThrough(reason),
        }
    }

    /// The result of a function that ran on a pool thread, or None if there was no thread for it.
    pub fn from_pool(result: Option<R>) -> Self {
        result.map_or(Self::PassThrough(Reason::NoEngine), Self::Done)
    }

    /// The result for the C caller, whose errno is set. None if libc makes the call; the reason is
    /// counted.
    pub fn settle(self, call: &Call<'_>) -> Option<R>
    where
        R: CResult,
    {
        self.settle_row(call, call.row())
    }

    /// [`Self::settle`] where the call's row is known to the compiler.
    #[inline(always)]
    pub fn settle_row(self, call: &Call<'_>, row: usize) -> Option<R>
    where
        R: CResult,
    {
        let error = match self {
            Self::Done(result) => return Some(result),
            Self::Failed(error) => error,
            Self::Interrupted(_) => Errno::INTR,
            Self::PassThrough(reason) => {
                call.count_pass_through_of(row, reason);
                return None;
            }
        };
        errno::set(error.0);
        Some(R::from_done(-1))
    }

    /// The verdict on a call that ended without a result.
    #[inline(always)]
    pub fn from_error(error: impl Into<Unfinished>) -> Self {
        match error.into() {
            Unfinished::Failed(error) => Self::Failed(error),
            Unfinished::Interrupted => Self::Interrupted(Restart::IfHandlersAllow),
            Unfinished::TimedOut => Self::Failed(Errno::TIMEDOUT),
            Unfinished::NotDone => Self::PassThrough(Reason::NoEngine),
        }
    }

    #[inline(always)]
    pub fn from_result(result: Result<R, impl Into<Unfinished>>) -> Self {
        match result {
            Ok(result) => Self::Done(result),
            Err(error) => Self::from_error(error),
        }
    }
}

impl Verdict {
    /// The verdict on a call that is one request.
    pub fn from_completion(completion: Completion) -> Self {
        Self::from_result(completion.map(|result| result as isize))
    }
}

/// A result as the C function returns it. Errors are -1 or null, with the number in errno.
/// Functions that return error numbers return them as ordinary results.
pub trait CResult {
    fn from_done(result: isize) -> Self;

    /// Whether the value is an error, whose number is in errno.
    fn is_failure(&self) -> bool;

    /// The bytes that a transfer of this result moved.
    fn count(&self) -> u64 {
        0
    }

    /// The error number after a failure.
    fn error(&self) -> c_int {
        errno::get()
    }
}

impl CResult for isize {
    fn from_done(result: isize) -> Self {
        result
    }

    fn count(&self) -> u64 {
        (*self).max(0) as u64
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
