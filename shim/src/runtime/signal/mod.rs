//! Signals on an attached thread. Each handler runs on a fiber, either between two of its calls or
//! in place of the wait of one, as the kernel would do it.
//!
//! The kernel calls [`trampoline`] instead of the handler. If the signal interrupted the program's
//! own code, the handler runs at once. It must not run inside the shim, or while all fibers are
//! parked: a jump out of the handler would leave the shim's state half changed, and no call would
//! be interrupted. So the signal is kept ([`stash`]) and *all* signals are blocked, which makes the
//! kernel keep the others. The thread is woken, and one fiber with an interruptible wait is
//! interrupted. On that fiber, outside of all shim code, the original mask is restored. The kernel
//! then runs the handlers in its own order, with sa_mask, SA_NODEFER, SA_RESETHAND and SA_ONSTACK
//! in force. A call that was interrupted for them restarts if SA_RESTART says so, else it fails
//! with EINTR.
//!
//! Calls made by a handler pass through to libc. [`jump`] deals with handlers that jump out.
//!
//! Invariant: while signals are deferred (`held`) none of them reaches the entry, because all are
//! blocked, except those that report a fault of the running code. The entry itself uses only
//! atomics of its own thread and system calls: no allocation, no lock.

mod actions;
pub mod alarm;
mod jump;
mod mask;
mod stash;
pub mod state;
mod trampoline;

use crate::record::handlers::{self, Handlers};

pub use actions::{has_handlers, unwrap_all, wrap_again, wrap_all};
pub use mask::run_deferred_handlers;
pub use state::{DEFERRABLE, Handled};

/// Gives the lower floors the functions that install handlers.
pub fn register() {
    handlers::register(&Handlers {
        take: actions::take,
        is_taken: actions::is_taken,
        forward: actions::forward,
    });
}
