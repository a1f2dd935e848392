//! longjmp(3) and its kin: the one way out of a handler but its return. The thread is put back on its fiber.

use crate::tls;
use std::ffi::{c_int, c_void};

macro_rules! jumps {
    ($($name:ident),*) => {$(
        mod $name {
            #![allow(static_mut_refs, missing_abi, clippy::missing_safety_doc)]
            use super::*;

            pub fn bind() {
                redhook::real!($name);
            }

            redhook::hook! {
                unsafe fn $name(target: *mut c_void, value: c_int) -> () => hook {
                    land();
                    // SAFETY: libc's own function, with its caller's arguments.
                    unsafe { redhook::real!($name)(target, value) }
                }
            }
        }
    )*};
}

jumps!(longjmp, _longjmp, siglongjmp, __longjmp_chk);

/// Finds libc's functions before a handler needs them.
pub fn bind() {
    longjmp::bind();
    _longjmp::bind();
    siglongjmp::bind();
    __longjmp_chk::bind();
}

/// What a handler took off its fiber is on it again.
fn land() {
    let attached = tls::attached();
    // SAFETY: alive while attached, and this OS thread's own.
    if let Some(thread) = unsafe { attached.as_ref() }
        && tls::here().is_null()
        && !thread.signals().is_critical()
    {
        thread.jumped();
        tls::set_here(attached);
    }
}
