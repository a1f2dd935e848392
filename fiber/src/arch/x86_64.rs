//! The context switch on x86-64, for the System V ABI: rbx, rbp, r12 to r15, MXCSR and the x87
//! control word survive a call.

use super::Main;
use core::arch::{asm, naked_asm};

/// The MXCSR register and the x87 control word.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FloatControl {
    mxcsr: u32,
    x87: u32,
}

impl FloatControl {
    /// Returns the values of the caller.
    pub(crate) fn current() -> Self {
        let mut now = FloatControl { mxcsr: 0, x87: 0 };
        // SAFETY: this writes only six bytes of a local variable.
        unsafe {
            asm!(
                "stmxcsr [{now}]",
                "fnstcw [{now} + 4]",
                now = in(reg) &raw mut now,
                options(nostack, preserves_flags),
            );
        }
        now
    }
}

/// The first frame of every context. It is entered by a jump, with the argument in rdi and rsp at
/// the top of the stack, and has no caller.
#[unsafe(naked)]
unsafe extern "C" fn base<M: Main>() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "call {main}",
        "ud2",
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
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "sub rsp, 8",
            "stmxcsr [rsp]",
            "fnstcw [rsp + 4]",
            "push rax",
            "mov [rdi], rsp",
            "mov rsp, rsi",
            "pop rax",
            "jmp rax",
            "2:",
            "ldmxcsr [rsp]",
            "fldcw [rsp + 4]",
            "add rsp, 8",
            "pop rbx",
            "pop rbp",
            inout("rdi") save => _,
            inout("rsi") to => _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
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
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "sub rsp, 8",
            "stmxcsr [rsp]",
            "fnstcw [rsp + 4]",
            "push rax",
            "mov [rdx], rsp",
            "mov rsp, rsi",
            "ldmxcsr [rcx]",
            "fldcw [rcx + 4]",
            "jmp {base}",
            "2:",
            "ldmxcsr [rsp]",
            "fldcw [rsp + 4]",
            "add rsp, 8",
            "pop rbx",
            "pop rbp",
            base = sym base::<M>,
            inout("rdi") argument => _,
            inout("rsi") top => _,
            inout("rdx") save => _,
            inout("rcx") float => _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
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
    unsafe { asm!("mov rsp, {to}", "pop rax", "jmp rax", to = in(reg) to, options(noreturn)) }
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
            "mov rsp, rsi",
            "ldmxcsr [rcx]",
            "fldcw [rcx + 4]",
            "jmp {base}",
            base = sym base::<M>,
            in("rdi") argument,
            in("rsi") top,
            in("rcx") float,
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
            "prefetcht0 [{to}]",
            "prefetcht0 [{to} + 64]",
            to = in(reg) to,
            options(nostack, preserves_flags, readonly),
        );
    }
}
