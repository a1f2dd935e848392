//! The functions that read or change the signal mask, or tell what is pending.
//!
//! While signals are held back all are blocked, which a fiber that begins to run then must not see: it would take that for its
//! mask, and put it back later. So the handlers run first.

use crate::tls;
use std::ffi::c_int;

macro_rules! masks {
    ($(fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            mod $name {
                #![allow(static_mut_refs, missing_abi, clippy::missing_safety_doc)]
                use super::*;

                pub fn bind() {
                    redhook::real!($name);
                }

                redhook::hook! {
                    unsafe fn $name($($arg: $type),*) -> c_int => hook {
                        settle();
                        // SAFETY: libc's own function, with its caller's arguments.
                        unsafe { redhook::real!($name)($($arg),*) }
                    }
                }
            }
        )*

        /// Finds libc's functions before a handler needs them.
        pub fn bind() {
            $( $name::bind(); )*
        }
    };
}

masks! {
    fn sigprocmask(how: c_int, new: *const libc::sigset_t, old: *mut libc::sigset_t);
    fn pthread_sigmask(how: c_int, new: *const libc::sigset_t, old: *mut libc::sigset_t);
    fn sigpending(set: *mut libc::sigset_t);
    fn sigblock(mask: c_int);
    fn sigsetmask(mask: c_int);
    fn siggetmask();
    fn sighold(signal: c_int);
    fn sigrelse(signal: c_int);
}

/// Runs the handlers that wait, where a fiber runs its own code.
fn settle() {
    // SAFETY: null, or alive while attached, and this OS thread's own.
    if let Some(thread) = unsafe { tls::here().as_ref() }
        && thread.signals().is_held()
        && !thread.signals().is_critical()
        && !thread.host().running().is_null()
    {
        thread.handle_signals(None);
    }
}
