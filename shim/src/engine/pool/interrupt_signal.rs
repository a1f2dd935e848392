//! The signal that interrupts the system call of a pool thread: the call fails with EINTR.
//!
//! The shim uses libc's own SIGCANCEL, which libc does not let a program handle, block or wait for.
//! Therefore every signal that a program can use stays available to it. On a thread outside the
//! pool, SIGCANCEL goes to libc's handler, or has the same effect as before. libc installs its
//! handler when it first cancels a thread, and that handler ignores a SIGCANCEL that
//! pthread_cancel(3) did not send.
//!
//! A thread of a host receives the signal only from its own alarm (`runtime/signal/alarm.rs`),
//! which interrupts only accept4(2).
//!
//! Invariant: only pool threads are interrupted, and the handler touches nothing except the
//! interrupted call's registers.

use crate::state::sigsys;
use std::arch::naked_asm;
use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use sys::KernelAction;
use sys::{SIGNALS_OF_LIBC, signal_bit};

pub const SIGCANCEL: c_int = 32;

/// The value that marks a signal of an alarm, to tell it from libc's.
pub fn alarm_value() -> *mut c_void {
    (&raw const INSTALLED).cast_mut().cast()
}

/// The handler that the shim's handler has replaced.
static NEXT: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);

static INSTALLED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread belongs to the pool.
    static OF_POOL: Cell<bool> = const { Cell::new(false) };
}

/// Call before the pool's first thread starts. Installs the handler once.
pub fn prepare() {
    if !INSTALLED.swap(true, Relaxed) {
        install();
    }
}

fn install() {
    let ours = on_interrupt as *const () as usize;
    let Ok(before) = sys::kernel_action(SIGCANCEL) else {
        return;
    };
    if before.handler == ours {
        return;
    }
    NEXT.store(before.handler, Relaxed);
    // SAFETY: `on_interrupt` takes the three arguments of a handler.
    let _ = unsafe { sys::set_kernel_action(SIGCANCEL, &before.with_handler(ours)) };
}

/// Makes the calling thread, which is new in the pool, accept interrupts.
pub fn accept() {
    OF_POOL.set(true);
    sys::set_blocked(!SIGNALS_OF_LIBC);
}

/// Interrupts the system call of a pool thread.
pub fn send(thread: c_int) {
    sys::queue_to_thread(thread, SIGCANCEL);
}

/// Call after pthread_cancel(3), which installs libc's handler if it is the first.
pub fn keep_installed() {
    if INSTALLED.load(Relaxed) {
        install();
    }
}

/// The handler that the kernel calls. It jumps to the next handler instead of calling it, because
/// that one may unwind the thread.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn on_interrupt() {
    naked_asm!(
        ".cfi_startproc",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "push rsi",
        ".cfi_adjust_cfa_offset 8",
        "push rdx",
        ".cfi_adjust_cfa_offset 8",
        "call {next}",
        "pop rdx",
        ".cfi_adjust_cfa_offset -8",
        "pop rsi",
        ".cfi_adjust_cfa_offset -8",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        "test rax, rax",
        "jz 2f",
        "jmp rax",
        "2: ret",
        ".cfi_endproc",
        next = sym next,
    )
}

/// Untested, because no aarch64 machine was available.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn on_interrupt() {
    naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-48]!",
        ".cfi_adjust_cfa_offset 48",
        ".cfi_rel_offset x29, 0",
        ".cfi_rel_offset x30, 8",
        "stp x0, x1, [sp, #16]",
        "str x2, [sp, #32]",
        "bl {next}",
        "mov x9, x0",
        "ldr x2, [sp, #32]",
        "ldp x0, x1, [sp, #16]",
        "ldp x29, x30, [sp], #48",
        ".cfi_adjust_cfa_offset -48",
        "cbz x9, 2f",
        "br x9",
        "2: ret",
        ".cfi_endproc",
        next = sym next,
    )
}

/// The handler to continue with; 0 for none.
extern "C" fn next(signal: c_int, info: *const libc::siginfo_t, context: *mut c_void) -> usize {
    // SAFETY: the context comes from the kernel, and nothing else uses it during the handler.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if OF_POOL.get() {
        end_call(context, None);
        return libc::SIG_DFL;
    }
    sigsys::entered_handler();
    // SAFETY: the kernel filled `info` in; every signal with a value has it at the same place.
    if unsafe { (*info).si_code == libc::SI_TIMER && (*info).si_value().sival_ptr == alarm_value() }
    {
        end_call(context, Some(libc::SYS_accept4));
        return libc::SIG_DFL;
    }
    match NEXT.load(Relaxed) {
        libc::SIG_DFL => {
            // As if the signal had no handler: it arrives again when this handler returns. SAFETY:
            // zeroes are the default action, and `info` comes from the kernel.
            unsafe {
                let _ = sys::set_kernel_action(signal, &KernelAction::DEFAULT);
                let blocked = &raw mut context.uc_sigmask;
                *blocked.cast::<sys::SignalSet>() &= !signal_bit(signal);
                sys::block(signal_bit(signal));
                let _ = sys::queue_to_self(signal, info);
            }
            libc::SIG_DFL
        }
        libc::SIG_IGN => libc::SIG_DFL,
        next => next,
    }
}

/// Makes the interrupted system call fail with EINTR where the kernel would restart it, as libc's
/// own flags for this signal may demand. A call that is about to begin fails as well. Wake
/// operations of futex(2) are left alone, because they do not block. With `only`, no call except
/// that one is interrupted.
#[cfg(target_arch = "x86_64")]
fn end_call(context: &mut libc::ucontext_t, only: Option<c_long>) {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let registers = &mut context.uc_mcontext.gregs;
    let at =
        std::ptr::with_exposed_provenance::<[u8; 2]>(registers[libc::REG_RIP as usize] as usize);
    // SAFETY: the thread is about to execute the instruction there, which belongs to the shim or to
    // libc and is followed by more code.
    let is_call = unsafe { at.read_unaligned() } == SYSCALL;
    let command = registers[libc::REG_RSI as usize] as c_int
        & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    let wakes = registers[libc::REG_RAX as usize] == libc::SYS_futex
        && !matches!(command, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET);
    let is_meant = only.is_none_or(|number| registers[libc::REG_RAX as usize] == number);
    if is_call && is_meant && !wakes {
        registers[libc::REG_RIP as usize] += SYSCALL.len() as i64;
        registers[libc::REG_RAX as usize] = -i64::from(libc::EINTR);
    }
}

#[cfg(target_arch = "aarch64")]
fn end_call(_: &mut libc::ucontext_t, _: Option<c_long>) {}
