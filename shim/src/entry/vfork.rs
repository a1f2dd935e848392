//! vfork(2): the child runs in our memory and on our stack, so it must not use the parent's engine.
//!
//! Deferred signal handlers run first, because the child inherits the signal mask. The thread is
//! taken off its fiber ([`crate::context`]) before the system call, so all calls of the child
//! before exec or _exit pass through. The parent, which continues after that, restores it. This is
//! written in assembly, because the child returns from here first: the parent's return address must
//! survive in a register and not on the stack that they share.

use crate::context;
use crate::runtime::signal::run_deferred_handlers;
use std::arch::naked_asm;

/// # Safety
/// See vfork(2).
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfork() -> libc::pid_t {
    naked_asm!(
        ".cfi_startproc",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {handlers}",
        "call {enter}",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "mov rdx, rax",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_register rip, rdi",
        "mov eax, 58", // SYS_vfork; keeps rdx and rdi
        "syscall",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rip, 0",
        "test eax, eax",
        "jz 2f",
        "push rax",
        ".cfi_adjust_cfa_offset 8",
        "mov rdi, rdx",
        "call {leave}",
        "pop rax",
        ".cfi_adjust_cfa_offset -8",
        "test eax, eax",
        "jl 3f",
        "2: ret",
        "3: neg eax",
        "push rax",
        ".cfi_adjust_cfa_offset 8",
        "call {errno}",
        "pop rcx",
        ".cfi_adjust_cfa_offset -8",
        "mov dword ptr [rax], ecx",
        "mov eax, -1",
        "ret",
        ".cfi_endproc",
        handlers = sym run_deferred_handlers,
        enter = sym context::enter_child,
        leave = sym context::leave,
        errno = sym errno_location,
    )
}

/// aarch64 has no vfork system call; this uses clone(CLONE_VM | CLONE_VFORK | SIGCHLD). Untested:
/// no aarch64 machine was available.
///
/// # Safety
/// See vfork(2).
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfork() -> libc::pid_t {
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "bl {handlers}",
        "bl {enter}",
        "ldp x29, x30, [sp], #16",
        "mov x11, x0",
        "mov x0, #0x4111",
        "mov x1, #0",
        "mov x2, #0",
        "mov x3, #0",
        "mov x4, #0",
        "mov x8, #220",
        "svc #0",
        "cbz x0, 2f",
        "stp x29, x30, [sp, #-32]!",
        "str x0, [sp, #16]",
        "mov x0, x11",
        "bl {leave}",
        "ldr x0, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "tbnz x0, #63, 3f",
        "2: ret",
        "3: neg w0, w0",
        "stp x29, x30, [sp, #-32]!",
        "str w0, [sp, #16]",
        "bl {errno}",
        "ldr w1, [sp, #16]",
        "str w1, [x0]",
        "mov x0, #-1",
        "ldp x29, x30, [sp], #32",
        "ret",
        handlers = sym run_deferred_handlers,
        enter = sym context::enter_child,
        leave = sym context::leave,
        errno = sym errno_location,
    )
}

/// vfork's other name.
///
/// # Safety
/// See vfork(2).
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vfork() -> libc::pid_t {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("jmp {vfork}", vfork = sym vfork);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("b {vfork}", vfork = sym vfork);
}

/// glibc's accessor, under a name that `sym` can take.
extern "C" fn errno_location() -> *mut libc::c_int {
    // SAFETY: the accessor is valid on every thread.
    unsafe { libc::__errno_location() }
}
