//! longjmp(3) and its variants, the only way out of a handler except a return. Puts the thread back
//! on its fiber. If the jump leaves a call-back of a function that runs on the pool, ends that
//! function first.

use crate::context;
use crate::runtime::thread::Thread;
use std::ffi::{c_int, c_void};

macro_rules! jumps {
    ($($name:ident),*) => {$(
        mod $name {
            #![allow(static_mut_refs, missing_abi, clippy::missing_safety_doc)]
            use super::*;

            redhook::hook! {
                unsafe fn $name(target: *mut c_void, value: c_int) -> () => hook {
                    jumped_to(target);
                    type Next = unsafe extern "C" fn(*mut c_void, c_int);
                    let next = next_function!($name as Next);
                    // SAFETY: this calls libc's own function with the caller's arguments.
                    unsafe { next(target, value) }
                }
            }
        }
    )*};
}

jumps!(longjmp, _longjmp, siglongjmp, __longjmp_chk);

/// The stack pointer that a jump buffer holds.
///
/// # Safety
/// setjmp(3) has filled the buffer in.
#[cfg(target_arch = "x86_64")]
unsafe fn stack_pointer(buffer: *const c_void) -> usize {
    const RSP: usize = 6;
    let guard: u64;
    // SAFETY: reads the word of the thread control block with which libc encrypts pointers in jump
    // buffers.
    unsafe {
        std::arch::asm!("mov {}, fs:[0x30]", out(reg) guard, options(nostack, preserves_flags,
            readonly))
    };
    // SAFETY: our caller keeps this contract.
    let disguised = unsafe { buffer.cast::<u64>().add(RSP).read() };
    (disguised.rotate_right(17) ^ guard) as usize
}

/// The encryption key is not available here, so no call-back is recognized as left.
#[cfg(target_arch = "aarch64")]
unsafe fn stack_pointer(_: *const c_void) -> usize {
    0
}

/// Puts a thread that a handler took off its fiber back on it.
fn jumped_to(target: *const c_void) {
    let Some(thread) = Thread::attached() else {
        return;
    };
    if context::is_off_fiber(thread.slot()) {
        thread.jumped();
        context::return_from_handler(thread.slot());
    }
    let callbacks = thread.callbacks();
    if callbacks.any() {
        // SAFETY: the buffer is the one that the program passed to longjmp.
        let sp = unsafe { stack_pointer(target) };
        callbacks.end_abandoned(thread.host().running(), |link| link.addr() < sp);
    }
}
