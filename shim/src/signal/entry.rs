//! What the kernel calls in the place of the program's handlers: it runs the handler, or has the signal wait.
//!
//! In assembly around the handler itself, so that an exception that the handler throws, or its thread's cancellation, finds
//! nothing of ours to unwind. Registers need not be kept: the kernel puts them back.

use super::{actions, kick};
use crate::escapes;
use crate::thread::Thread;
use crate::tls;
use std::arch::naked_asm;
use std::ffi::{c_int, c_void};

/// How the handler is to be run: in two registers.
#[repr(C)]
struct Start {
    /// Null: not now.
    handler: usize,
    here: *const Thread,
}

/// # Safety
/// Called by the kernel only.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn enter() {
    naked_asm!(
        ".cfi_startproc",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "mov ebx, edi",
        "mov r12, rsi",
        "mov r13, rdx",
        "call {begin}",
        "test rax, rax",
        "jz 2f",
        "mov r14, rdx",
        "mov edi, ebx",
        "mov rsi, r12",
        "mov rdx, r13",
        "call rax",
        "mov rdi, r14",
        "call {end}",
        "2: add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "ret",
        ".cfi_endproc",
        begin = sym begin,
        end = sym end,
    )
}

/// Untested: no aarch64 machine was at hand.
///
/// # Safety
/// Called by the kernel only.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn enter() {
    naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_adjust_cfa_offset 16",
        ".cfi_rel_offset x29, 0",
        ".cfi_rel_offset x30, 8",
        "mov w19, w0",
        "mov x20, x1",
        "mov x21, x2",
        "bl {begin}",
        "cbz x0, 2f",
        "mov x22, x1",
        "mov x9, x0",
        "mov w0, w19",
        "mov x1, x20",
        "mov x2, x21",
        "blr x9",
        "mov x0, x22",
        "bl {end}",
        "2: ldp x29, x30, [sp], #16",
        ".cfi_adjust_cfa_offset -16",
        "ret",
        ".cfi_endproc",
        begin = sym begin,
        end = sym end,
    )
}

/// Before the handler: takes the thread off its fiber, so that what the handler calls passes through to libc.
extern "C" fn begin(signal: c_int, info: *const libc::siginfo_t, context: *mut c_void) -> Start {
    escapes::entered_handler();
    let attached = tls::attached();
    if attached.is_null() && kick::on_pool_thread() {
        return Start {
            handler: 0,
            here: std::ptr::null(),
        };
    }
    // SAFETY: alive while attached, and this OS thread's own; what is touched are cells that a handler may touch. `info` and
    // `context` are the kernel's.
    if let Some(thread) = unsafe { attached.as_ref() }
        // SAFETY: the same thread; `info` and `context` are what the kernel gave this handler.
        && unsafe { thread.signals().hold(thread, signal, info, context.cast()) }
    {
        return Start {
            handler: 0,
            here: std::ptr::null(),
        };
    }
    let (handler, flags) = actions::begin(signal);
    // SAFETY: alive while attached, and this OS thread's own.
    if let Some(thread) = unsafe { attached.as_ref() } {
        thread.signals().handles(flags & libc::SA_RESTART != 0);
    }
    let here = tls::here();
    tls::set_here(std::ptr::null());
    Start { handler, here }
}

/// After the handler.
extern "C" fn end(here: *const Thread) {
    tls::set_here(here);
}
