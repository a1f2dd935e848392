//! How the watchdog and the tracer of unhooked calls share signals with the program. The signal
//! module is above this one, and registers its functions at start-up.

use once_cell::race::OnceRef;
use std::ffi::{c_int, c_void};

/// A handler of the shim's own.
pub type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

pub struct Handlers {
    /// Installs a handler for a signal that has none. Returns whether it did.
    pub take: fn(c_int, Handler) -> bool,
    /// Whether that handler is still installed.
    pub is_taken: fn(c_int, Handler) -> bool,
    /// Forwards a signal that the shim handles but did not cause to the program's handler.
    pub forward: fn(c_int, *mut libc::siginfo_t, *mut c_void),
}

static HANDLERS: OnceRef<'static, Handlers> = OnceRef::new();

pub fn register(handlers: &'static Handlers) {
    let _ = HANDLERS.set(handlers);
}

pub(super) fn take(signal: c_int, handler: Handler) -> bool {
    HANDLERS.get().is_some_and(|of| (of.take)(signal, handler))
}

pub(super) fn is_taken(signal: c_int, handler: Handler) -> bool {
    HANDLERS
        .get()
        .is_some_and(|of| (of.is_taken)(signal, handler))
}

pub(super) fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    if let Some(of) = HANDLERS.get() {
        (of.forward)(signal, info, context);
    }
}
