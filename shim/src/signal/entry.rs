//! What the kernel calls in the place of the program's handlers: it runs the handler, or has the
//! signal wait.
//!
//! In assembly around the handler itself, so that an exception that the handler throws, or its
//! thread's cancellation, finds nothing of ours to unwind. Registers need not be kept: the kernel
//! puts them back.

use super::actions::Recorded;
use super::{actions, bit};
use crate::escapes;
use crate::sys::{self, SignalSet};
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

const NOT_NOW: Start = Start {
    handler: 0,
    here: std::ptr::null(),
};

/// Before the handler: takes the thread off its fiber, so that what the handler calls passes
/// through to libc, and blocks what the handler is to run with. Until then all signals are blocked
/// (actions.rs).
extern "C" fn begin(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> Start {
    escapes::entered_handler();
    let attached = tls::attached();
    // SAFETY: the kernel's, and it reads and writes the first 64 bits of the set alone.
    let blocked = unsafe {
        &mut *(&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<SignalSet>()
    };
    let before = *blocked;
    // SAFETY: alive while attached, and this OS thread's own; what is touched are cells that a
    // handler may touch.
    let thread = unsafe { attached.as_ref() };
    if let Some(thread) = thread
        // SAFETY: on that thread; `info` is what the kernel gave this handler.
        && unsafe { thread.signals().hold(thread, signal, info, blocked) }
    {
        return NOT_NOW;
    }
    let Recorded {
        handler,
        flags,
        mask,
    } = actions::begin(signal);
    if let Some(thread) = thread
        // SAFETY: on the attached thread itself; `info` is what the kernel gave this handler.
        && !unsafe { thread.signals().begin_handler(signal, info, flags, blocked) }
    {
        return NOT_NOW;
    }
    let here = tls::here();
    tls::set_here(std::ptr::null());
    let own = if flags & libc::SA_NODEFER == 0 {
        bit(signal)
    } else {
        0
    };
    sys::set_blocked(before | mask | own);
    // Once more, for this mask: the program's handler makes system calls under it.
    escapes::entered_handler();
    Start { handler, here }
}

/// After the handler.
extern "C" fn end(here: *const Thread) {
    tls::set_here(here);
}
