//! The signal that ends the system call which a thread of the pool is in: its handler does nothing, and the call fails with
//! EINTR.
//!
//! It is the last of the real-time signals that nobody handles when the pool's first thread starts. To the program it still
//! looks unhandled, and ends the process when it comes to one of its own threads. Where the program comes to ignore it nothing
//! of the pool's is interrupted any more.

use super::{actions, bit};
use crate::{escapes, sys};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// 0: there is none yet.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// This thread is one of the pool's.
    static OF_POOL: Cell<bool> = const { Cell::new(false) };
}

/// Chooses the signal, unless that is done.
pub fn prepare() {
    if SIGNAL.load(Relaxed) != 0 {
        return;
    }
    if let Some(signal) = (35..=libc::SIGRTMAX())
        .rev()
        .find(|signal| actions::is_default(*signal))
    {
        SIGNAL.store(signal, Relaxed);
        actions::wrap(signal);
    }
}

/// The calling thread, new in the pool, can be kicked.
pub fn take() {
    OF_POOL.set(true);
    let signal = SIGNAL.load(Relaxed);
    if signal != 0 {
        sys::set_blocked(!(bit(signal) | super::OF_LIBC));
    }
}

/// Ends the system call of a thread of the pool.
pub fn kick(thread: c_int) {
    let signal = SIGNAL.load(Relaxed);
    if signal != 0 {
        sys::signal_thread(thread, signal);
    }
}

pub fn is_kick(signal: c_int) -> bool {
    SIGNAL.load(Relaxed) == signal
}

pub fn on_pool_thread() -> bool {
    OF_POOL.get()
}

/// What the kernel calls while the program has no handler of its own.
pub extern "C" fn kicked(signal: c_int, info: *const libc::siginfo_t, context: *mut c_void) {
    if on_pool_thread() {
        return;
    }
    escapes::entered_handler();
    // As if nobody handled it: it comes once more when this handler is over.
    actions::make_default(signal);
    // SAFETY: the kernel's own.
    unsafe {
        let blocked = &raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask;
        *blocked.cast::<sys::SignalSet>() &= !bit(signal);
        sys::block(bit(signal));
        let _ = sys::queue_to_self(signal, info);
    }
}
