//! How a function of the jump tables (entry/stdio) enters its stream and leaves it, and how a
//! stream calls functions of the program.

use super::layout::File;
use super::occupancy::Occupancy;
use super::{lock, parked, waiting};
use crate::context;
use crate::runtime::thread::Thread;

/// A jump-table function's presence inside its stream.
pub struct StreamVisit {
    files: *const Occupancy,
    depth: usize,
}

impl StreamVisit {
    /// Enters `file`, after waiting while a fiber is parked inside it. None if the stream must not
    /// be touched.
    ///
    /// # Safety
    /// The stream is open.
    #[inline(always)]
    pub unsafe fn enter(file: *mut File) -> Option<Self> {
        // SAFETY: our caller makes the same promise.
        if parked::may_be_marked(file) && !unsafe { waiting::await_free(file) } {
            return None;
        }
        let Some(thread) = Thread::current() else {
            return Some(Self {
                files: std::ptr::null(),
                depth: 0,
            });
        };
        let here = 0u8;
        let files = thread.streams();
        let depth = files.enter(file, &raw const here as usize);
        Some(Self { files, depth })
    }

    /// Leaves the stream.
    ///
    /// # Safety
    /// `file` is the stream that this fiber entered; it may have been freed.
    #[inline(always)]
    pub unsafe fn leave(self, file: *mut File) {
        // SAFETY: a thread stays attached while code of its fibers runs.
        let Some(files) = (unsafe { self.files.as_ref() }) else {
            return;
        };
        if files.leave(self.depth) {
            // SAFETY: `re_enter` took the lock, so the stream has one, and this thread owns it.
            unsafe { lock::unlock(file) };
        }
    }
}

/// Whether this thread is attached, and not in a signal handler.
#[inline(always)]
pub fn on_attached_thread() -> bool {
    !context::active().is_null()
}

/// Runs a function of the program that a stream calls.
pub fn run_user_callback<R>(call: impl FnOnce() -> R) -> R {
    let Some(thread) = Thread::current() else {
        return call();
    };
    thread.streams().keep_over(thread.host().running(), || {
        let _program = context::program(thread.slot());
        call()
    })
}
