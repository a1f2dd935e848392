//! longjmp(3) and its kin: the one way out of a handler but its return. The thread is put back on
//! its fiber; and if the jump leaves a call-back of a function that runs on the pool, that function
//! is ended first.

use crate::calls::converse;
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
                    land(target);
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

/// The stack pointer that a jump buffer holds.
///
/// # Safety
/// setjmp(3) has filled it in.
#[cfg(target_arch = "x86_64")]
unsafe fn stack_pointer(buffer: *const c_void) -> usize {
    const RSP: usize = 6;
    let guard: u64;
    // SAFETY: reads the word of the thread's control block with which libc disguises what is in
    // jump buffers.
    unsafe {
        std::arch::asm!("mov {}, fs:[0x30]", out(reg) guard, options(nostack, preserves_flags, readonly))
    };
    // SAFETY: the caller's promise.
    let disguised = unsafe { buffer.cast::<u64>().add(RSP).read() };
    (disguised.rotate_right(17) ^ guard) as usize
}

/// What disguises it is not to be had here: no call-back is taken to be left.
#[cfg(target_arch = "aarch64")]
unsafe fn stack_pointer(_: *const c_void) -> usize {
    0
}

/// What a handler took off its fiber is on it again.
fn land(target: *const c_void) {
    let attached = tls::attached();
    // SAFETY: alive while attached, and this OS thread's own.
    if let Some(thread) = unsafe { attached.as_ref() }
        && tls::here().is_null()
        && !thread.signals().is_critical()
    {
        thread.jumped();
        tls::set_here(attached);
    }
    // SAFETY: a thread's record is alive while attached, and this one is the calling OS thread's
    // own.
    if let Some(thread) = unsafe { attached.as_ref() }
        && converse::is_talking(thread)
    {
        // SAFETY: the program's jump buffer.
        let sp = unsafe { stack_pointer(target) };
        converse::end_left(thread, thread.host().running(), |link| link.addr() < sp);
    }
}
