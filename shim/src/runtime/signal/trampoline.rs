//! The function that the kernel calls instead of a handler of the program: it runs the handler or
//! defers the signal.
//!
//! It is written in assembly around the handler, so that an exception thrown by the handler, or a
//! cancellation of its thread, finds no frame of the shim to unwind. It need not save registers,
//! because the kernel restores them.

use super::actions::{self, Recorded};
use crate::context;
use crate::runtime::thread::Thread;
use crate::state::sigsys;
use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use sys::SignalSet;
use sys::signal_bit;

/// How to run the handler; returned in two registers.
#[repr(C)]
struct Start {
    /// Null if the handler must not run now.
    handler: usize,
    /// What [`context::leave`] needs.
    before: usize,
}

/// # Safety
/// Only the kernel may call this.
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
        end = sym context::leave,
    )
}

/// Untested, because no aarch64 machine was available.
///
/// # Safety
/// Only the kernel may call this.
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
        end = sym context::leave,
    )
}

const DEFERRED: Start = Start {
    handler: 0,
    before: 0,
};

/// Runs before the handler. Takes the thread off its fiber, so that the handler's calls pass
/// through to libc, and sets the mask that the handler must run with. Until then all signals are
/// blocked (actions.rs).
extern "C" fn begin(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> Start {
    sigsys::entered_handler();
    // SAFETY: the context comes from the kernel, which uses only the first 64 bits of the set.
    let blocked = unsafe {
        &mut *(&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<SignalSet>()
    };
    let before = *blocked;
    // This function touches only fields that a handler may touch.
    let thread = Thread::attached();
    if let Some(thread) = thread
        // SAFETY: this runs on that thread, and `info` is what the kernel passed to this handler.
        && unsafe {
            let waits = || thread.in_flight() > 0;
            let (host, remote) = (thread.host(), thread.remote());
            thread.signals().defer(host, remote, waits, signal, info, blocked)
        }
    {
        return DEFERRED;
    }
    let Recorded {
        handler,
        flags,
        mask,
    } = actions::begin(signal);
    if let Some(thread) = thread
        // SAFETY: this runs on that thread, and `info` is what the kernel passed to this handler.
        && !unsafe { thread.signals().begin_handler(signal, info, flags, blocked) }
    {
        return DEFERRED;
    }
    let context = context::enter_handler();
    let own = if flags & libc::SA_NODEFER == 0 {
        signal_bit(signal)
    } else {
        0
    };
    sys::set_blocked(before | mask | own);
    // Again, because the program's handler makes system calls under the mask that is now in force.
    sigsys::entered_handler();
    Start {
        handler,
        before: context,
    }
}
