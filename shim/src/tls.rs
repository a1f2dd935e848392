//! One initial-exec thread-local pointer: the attached thread this code runs on, null everywhere else.
//!
//! Every hook reads it first, so it must cost one load: a Rust `thread_local!` in a shared library is general-dynamic,
//! a function call of 2.7 ns; this is what `__thread` with `tls_model("initial-exec")` gives C. A preloaded library is
//! loaded at start-up, so its static TLS always has room.

use crate::thread::Thread;
use std::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss.aioshim_here,\"awT\",@nobits",
    ".balign 8",
    ".globl aioshim_here",
    ".hidden aioshim_here",
    ".type aioshim_here,@object",
    ".size aioshim_here,8",
    "aioshim_here: .zero 8",
    ".popsection",
);

/// The attached thread this code runs on, or null.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn here() -> *const Thread {
    let thread: *const Thread;
    // SAFETY: loads this thread's copy of an 8-byte variable that is defined above and only written by `set_here`.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + aioshim_here@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) thread,
            options(nostack, preserves_flags, readonly),
        );
    }
    thread
}

/// Makes `thread` what [`here`] returns on this OS thread.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn set_here(thread: *const Thread) {
    // SAFETY: stores to this thread's copy of the variable defined above.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + aioshim_here@GOTTPOFF]",
            "mov qword ptr fs:[{0}], {1}",
            out(reg) _,
            in(reg) thread,
            options(nostack, preserves_flags),
        );
    }
}

/// The attached thread this code runs on, or null. Untested: no aarch64 machine was at hand.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn here() -> *const Thread {
    let thread: *const Thread;
    // SAFETY: loads this thread's copy of an 8-byte variable that is defined above and only written by `set_here`.
    unsafe {
        asm!(
            "adrp {0}, :gottprel:aioshim_here",
            "ldr {0}, [{0}, :gottprel_lo12:aioshim_here]",
            "mrs {1}, tpidr_el0",
            "ldr {0}, [{1}, {0}]",
            out(reg) thread,
            out(reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    thread
}

/// Makes `thread` what [`here`] returns on this OS thread.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn set_here(thread: *const Thread) {
    // SAFETY: stores to this thread's copy of the variable defined above.
    unsafe {
        asm!(
            "adrp {0}, :gottprel:aioshim_here",
            "ldr {0}, [{0}, :gottprel_lo12:aioshim_here]",
            "mrs {1}, tpidr_el0",
            "str {2}, [{1}, {0}]",
            out(reg) _,
            out(reg) _,
            in(reg) thread,
            options(nostack, preserves_flags),
        );
    }
}

/// While it lives this code is off every fiber: our own calls into libraries that may reach a hook pass through.
pub struct OffFiber(*const Thread);

impl OffFiber {
    pub fn enter() -> Self {
        let thread = here();
        set_here(std::ptr::null());
        Self(thread)
    }
}

impl Drop for OffFiber {
    fn drop(&mut self) {
        set_here(self.0);
    }
}
