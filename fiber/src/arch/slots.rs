//! The thread-local slots of the library: a pointer to the worker that the thread runs, and the C++
//! runtime's state of the thread's exceptions.
//!
//! The slots are defined in assembly, because a Rust `thread_local!` in a shared library uses the
//! general-dynamic model. That is a call of 2.7 ns. The initial-exec model is one load, which costs
//! 0.01 ns more than no check at all. If the crate is linked into an executable, the linker turns
//! the same sequence into local-exec.

use core::arch::{asm, global_asm};
use core::ffi::c_void;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .tbss.fiber_this_worker,\"awT\",@nobits",
    ".balign 8",
    ".globl fiber_this_worker",
    ".hidden fiber_this_worker",
    ".type fiber_this_worker,@object",
    ".size fiber_this_worker,8",
    "fiber_this_worker: .zero 8",
    ".popsection",
    ".pushsection .tbss.fiber_exceptions,\"awT\",@nobits",
    ".balign 8",
    ".globl fiber_exceptions",
    ".hidden fiber_exceptions",
    ".type fiber_exceptions,@object",
    ".size fiber_exceptions,16",
    "fiber_exceptions: .zero 16",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .tbss.fiber_this_worker,\"awT\",%nobits",
    ".balign 8",
    ".globl fiber_this_worker",
    ".hidden fiber_this_worker",
    ".type fiber_this_worker,%object",
    ".size fiber_this_worker,8",
    "fiber_this_worker: .zero 8",
    ".popsection",
    ".pushsection .tbss.fiber_exceptions,\"awT\",%nobits",
    ".balign 8",
    ".globl fiber_exceptions",
    ".hidden fiber_exceptions",
    ".type fiber_exceptions,%object",
    ".size fiber_exceptions,16",
    "fiber_exceptions: .zero 16",
    ".popsection",
);

/// Returns the address of this thread's 16 bytes for the C++ runtime.
pub(crate) fn exceptions() -> *mut c_void {
    let at: *mut c_void;
    // SAFETY: computes the address of this thread's own copy of the variable defined above.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + fiber_exceptions@GOTTPOFF]",
            "add {0}, qword ptr fs:[0]",
            out(reg) at,
            options(nostack, readonly),
        );
    }
    // SAFETY: computes the address of this thread's own copy of the variable defined above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "adrp {0}, :gottprel:fiber_exceptions",
            "ldr {0}, [{0}, :gottprel_lo12:fiber_exceptions]",
            "mrs {1}, tpidr_el0",
            "add {0}, {0}, {1}",
            out(reg) at,
            out(reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    at
}

/// Returns the value of this thread's slot for its worker, which is null at first.
#[inline(always)]
pub(crate) fn worker() -> *const c_void {
    let worker: *const c_void;
    // SAFETY: reads eight bytes of this thread's own static TLS block; the symbol is defined above
    // with that size.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + fiber_this_worker@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) worker,
            options(nostack, preserves_flags, readonly),
        );
    }
    // SAFETY: reads eight bytes of this thread's own static TLS block; the symbol is defined above
    // with that size.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "adrp {0}, :gottprel:fiber_this_worker",
            "ldr {0}, [{0}, :gottprel_lo12:fiber_this_worker]",
            "mrs {1}, tpidr_el0",
            "ldr {0}, [{1}, {0}]",
            out(reg) worker,
            out(reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    worker
}

/// Sets this thread's slot for its worker.
pub(crate) fn set_worker(worker: *const c_void) {
    // SAFETY: writes eight bytes of this thread's own static TLS block; the symbol is defined above
    // with that size.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + fiber_this_worker@GOTTPOFF]",
            "mov qword ptr fs:[{0}], {1}",
            out(reg) _,
            in(reg) worker,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: writes eight bytes of this thread's own static TLS block; the symbol is defined above
    // with that size.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "adrp {0}, :gottprel:fiber_this_worker",
            "ldr {0}, [{0}, :gottprel_lo12:fiber_this_worker]",
            "mrs {1}, tpidr_el0",
            "str {2}, [{1}, {0}]",
            out(reg) _,
            out(reg) _,
            in(reg) worker,
            options(nostack, preserves_flags),
        );
    }
}
