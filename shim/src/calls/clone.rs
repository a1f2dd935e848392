//! clone(2), _Fork(3), and fork(2) by its number: children of which neither the shim's fork handler
//! nor the host's hears.
//!
//! The thread is taken off its fiber before, as for [vfork(2)](crate::vfork): in the child it stays
//! so, and whatever that calls passes through; the parent's engine, which is the parent's alone, is
//! not touched. The parent goes on on its fiber.

use super::syscall::Syscall;
use crate::signal;
use crate::tls::{self, OffFiber};
use std::ffi::{c_int, c_long, c_void};
use std::ptr::null;

/// What a child begins with.
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
#[expect(clippy::too_many_arguments, reason = "so many has C's")]
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
    signal::run_held_handlers();
    let clone = || {
        // SAFETY: libc's own function, with its caller's arguments.
        unsafe { real(entry, stack, flags, argument, parent_id, tls, child_id) }
    };
    // One in our memory that runs beside us has thread-local variables of its own, or ours: then
    // they are not to be changed.
    if flags & (libc::CLONE_VM | libc::CLONE_VFORK) == libc::CLONE_VM {
        return clone();
    }
    // The child begins on a stack of its own, and does not come back to this one.
    let _off = OffFiber::enter();
    let attached = tls::attached();
    tls::set_attached(null());
    let child = clone();
    tls::set_attached(attached);
    child
}

/// _Fork(3).
pub fn fork(real: unsafe extern "C" fn() -> libc::pid_t) -> libc::pid_t {
    // SAFETY: libc's own function.
    twice(|| c_long::from(unsafe { real() })) as libc::pid_t
}

/// An argument of a variadic function, which takes it as wide as a register.
const NOTHING: c_long = 0;

/// Where libc has none, before 2.34.
///
/// # Safety
/// As _Fork(3).
pub unsafe extern "C" fn own_fork() -> libc::pid_t {
    // SAFETY: our caller's; none of the arguments is an address.
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

/// A system call that makes a child, which goes on here, too.
///
/// # Safety
/// As the system call's.
pub unsafe fn by_number(real: Syscall, number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    // SAFETY: libc's own function, with its caller's arguments.
    twice(|| unsafe { real(number, a, b, c, d, e, f) })
}

fn twice(fork: impl FnOnce() -> c_long) -> c_long {
    signal::run_held_handlers();
    let off = OffFiber::enter();
    let child = fork();
    if child == 0 {
        // A jump in the child is no handler's that would lead back to a fiber.
        tls::set_attached(null());
        std::mem::forget(off);
    }
    child
}
