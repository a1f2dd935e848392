//! The context switch on aarch64, for AAPCS64: x19 to x30, d8 to d15 and FPCR survive a call.
//!
//! The compiler assembles and checks this file, but it has never run, because no aarch64 machine
//! was available.

use super::Main;
use core::arch::{asm, naked_asm};

/// The FPCR register.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FloatControl {
    fpcr: u64,
}

impl FloatControl {
    /// Returns the value of the caller.
    pub(crate) fn current() -> Self {
        let fpcr;
        // SAFETY: this only reads a control register.
        unsafe { asm!("mrs {0}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        FloatControl { fpcr }
    }
}

/// The first frame of every context. It is entered by a jump, with the argument in x0 and sp at the
/// top of the stack, and has no caller.
#[unsafe(naked)]
unsafe extern "C" fn base<M: Main>() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        "hint #36", // bti j
        "mov x29, xzr",
        "mov x30, xzr",
        "bl {main}",
        "brk #1",
        ".cfi_endproc",
        main = sym M::main,
    )
}

/// Saves the running context, stores its stack pointer in `*save` and resumes the context `to`.
///
/// # Safety
/// [`switch`] or [`start`] saved `to` on this thread, and it has not been resumed since; its stack
/// is mapped.
#[inline(always)]
pub(crate) unsafe fn switch(save: *mut *mut u8, to: *mut u8) {
    // SAFETY: the caller guarantees that `to` can be resumed. Every register that the ABI preserves
    // is pushed here or declared as clobbered.
    unsafe {
        asm!(
            "adr x9, 2f",
            "mrs x10, fpcr",
            "stp x29, x30, [sp, #-16]!",
            "stp x19, xzr, [sp, #-16]!",
            "stp x9, x10, [sp, #-16]!",
            "mov x9, sp",
            "str x9, [x0]",
            "mov sp, x1",
            "ldr x16, [sp]",
            "br x16",
            "2:",
            "hint #36", // bti j
            "ldr x10, [sp, #8]",
            "msr fpcr, x10",
            "ldr x19, [sp, #16]",
            "ldp x29, x30, [sp, #32]",
            "add sp, sp, #48",
            inout("x0") save => _,
            inout("x1") to => _,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            clobber_abi("C"),
        );
    }
}

/// Saves the running context as [`switch`] does, and runs [`Main::main`] with `argument` on the
/// stack that ends at `top`.
///
/// # Safety
/// `top` is 16-byte aligned and the end of a mapped stack that is not in use; `argument` is what
/// the main function expects.
#[inline(always)]
pub(crate) unsafe fn start<M: Main>(
    save: *mut *mut u8,
    top: *mut u8,
    argument: *mut M,
    float: &FloatControl,
) {
    // SAFETY: the caller guarantees that `top` and `argument` are valid. Every register that the
    // ABI preserves is pushed here or declared as clobbered.
    unsafe {
        asm!(
            "adr x9, 2f",
            "mrs x10, fpcr",
            "stp x29, x30, [sp, #-16]!",
            "stp x19, xzr, [sp, #-16]!",
            "stp x9, x10, [sp, #-16]!",
            "mov x9, sp",
            "str x9, [x2]",
            "mov sp, x1",
            "msr fpcr, x3",
            "adrp x16, {base}",
            "add x16, x16, :lo12:{base}",
            "br x16",
            "2:",
            "hint #36", // bti j
            "ldr x10, [sp, #8]",
            "msr fpcr, x10",
            "ldr x19, [sp, #16]",
            "ldp x29, x30, [sp, #32]",
            "add sp, sp, #48",
            base = sym base::<M>,
            inout("x0") argument => _,
            inout("x1") top => _,
            inout("x2") save => _,
            inout("x3") float.fpcr => _,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            clobber_abi("C"),
        );
    }
}

/// Resumes the context `to`. The running context is abandoned.
///
/// # Safety
/// The same as for [`switch`], and nothing on the running stack is needed any more.
#[inline(always)]
pub(crate) unsafe fn leave(to: *mut u8) -> ! {
    // SAFETY: the caller guarantees that `to` can be resumed.
    unsafe { asm!("mov sp, {to}", "ldr x16, [sp]", "br x16", to = in(reg) to, options(noreturn)) }
}

/// Runs [`Main::main`] with `argument` on the stack that ends at `top`. The running context is
/// abandoned.
///
/// # Safety
/// The same as for [`start`], but `top` may belong to the running stack. Nothing on the running
/// stack is needed any more.
#[inline(always)]
pub(crate) unsafe fn leave_to_start<M: Main>(
    top: *mut u8,
    argument: *mut M,
    float: &FloatControl,
) -> ! {
    // SAFETY: the caller guarantees that `top` and `argument` are valid.
    unsafe {
        asm!(
            "mov sp, x1",
            "msr fpcr, x2",
            "b {base}",
            base = sym base::<M>,
            in("x0") argument,
            in("x1") top,
            in("x2") float.fpcr,
            options(noreturn),
        )
    }
}

/// Prefetches the memory that a switch to the saved context `to` will read. `to` may be any
/// address.
#[inline(always)]
pub(crate) fn prefetch(to: *const u8) {
    // SAFETY: a prefetch never faults.
    unsafe {
        asm!(
            "prfm pldl1keep, [{to}]",
            "prfm pldl1keep, [{to}, #64]",
            to = in(reg) to,
            options(nostack, preserves_flags, readonly),
        );
    }
}
