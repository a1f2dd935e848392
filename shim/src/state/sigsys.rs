//! Whether the tracer of unhooked calls ([`crate::record::unhooked`]) uses SIGSYS.
//!
//! Invariant: SIGSYS is not blocked on a traced thread, because the kernel would kill the process.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

thread_local! {
    /// Whether the calling thread is traced. Signal handlers read it: it is const and has no
    /// destructor, so accessing it never allocates.
    static TRACED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the shim's handler of SIGSYS is installed.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Whether the shim handles SIGSYS, and forwards other SIGSYS signals to the program's own handler.
pub fn is_owned() -> bool {
    INSTALLED.load(Relaxed)
}

/// Notes that the shim handles SIGSYS from now on. Returns whether it did before.
pub fn note_owned() -> bool {
    INSTALLED.swap(true, Relaxed)
}

/// Notes whether the calling thread is traced.
pub fn set_traced(traced: bool) {
    TRACED.set(traced);
}

/// Call at the beginning of each signal handler of the program, whose mask may block SIGSYS.
#[inline]
pub fn entered_handler() {
    if TRACED.get() {
        sys::unblock(sys::signal_bit(libc::SIGSYS));
    }
}
