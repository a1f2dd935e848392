//! clone(2), _Fork(3), and fork(2) by number: they make children without running the shim's or the
//! host's fork handlers.
//!
//! The thread is taken off its fiber before the call, as for [vfork(2)](crate::entry::vfork). In
//! the child it stays off, and all calls there pass through, so the child does not touch the
//! engine, which belongs to the parent. The parent continues on its fiber.

use super::syscall::Syscall;
use crate::context;
use crate::runtime::signal;
use std::ffi::{c_int, c_long, c_void};

/// The function that a child starts with.
pub type Entry = Option<unsafe extern "C" fn(*mut c_void) -> c_int>;

pub type Clone = unsafe extern "C" fn(
    Entry,
    *mut c_void,
    c_int,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut c_void,
) -> c_int;

/// clone(2).
#[expect(clippy::too_many_arguments, reason = "as many as the C function has")]
pub fn clone(
    real: Clone,
    entry: Entry,
    stack: *mut c_void,
    flags: c_int,
    argument: *mut c_void,
    parent_id: *mut c_void,
    tls: *mut c_void,
    child_id: *mut c_void,
) -> c_int {
    signal::run_deferred_handlers();
    let clone = || {
        // SAFETY: libc's own function, with its caller's arguments.
        unsafe { real(entry, stack, flags, argument, parent_id, tls, child_id) }
    };
    // A child that shares our memory and runs concurrently either has its own thread-local
    // variables or shares ours, so ours must not change.
    if flags & (libc::CLONE_VM | libc::CLONE_VFORK) == libc::CLONE_VM {
        return clone();
    }
    // The child starts on a stack of its own and never returns to this one.
    context::unattached(clone)
}

/// _Fork(3).
pub fn fork(real: unsafe extern "C" fn() -> libc::pid_t) -> libc::pid_t {
    // SAFETY: libc's own function.
    twice(|| c_long::from(unsafe { real() })) as libc::pid_t
}

/// An unused argument of a variadic function, which reads it as a whole register.
const NOTHING: c_long = 0;

/// _Fork(3) for a libc that lacks it (before 2.34).
///
/// # Safety
/// The requirements of _Fork(3) apply.
pub unsafe extern "C" fn fallback_fork() -> libc::pid_t {
    // SAFETY: our caller guarantees what _Fork(3) requires; none of the arguments is an address.
    unsafe {
        libc::syscall(
            libc::SYS_clone,
            c_long::from(libc::SIGCHLD),
            NOTHING,
            NOTHING,
            NOTHING,
            NOTHING,
        ) as libc::pid_t
    }
}

/// A system call that makes a child which continues here, too.
///
/// # Safety
/// The requirements of the system call apply.
pub unsafe fn by_number(real: Syscall, number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    // SAFETY: libc's own function, with its caller's arguments.
    twice(|| unsafe { real(number, a, b, c, d, e, f) })
}

fn twice(fork: impl FnOnce() -> c_long) -> c_long {
    signal::run_deferred_handlers();
    let entered = context::libc();
    let child = fork();
    if child == 0 {
        // In the child, a jump must not be treated as one from a handler back to a fiber.
        context::forget();
        std::mem::forget(entered);
    }
    child
}
