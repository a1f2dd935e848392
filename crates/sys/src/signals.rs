//! Signals: masks, pending signals, sending, and SIGSYS in place of system calls.

use super::outcome;
use crate::errno::Errno;
use std::ffi::c_int;
use syscalls::{Sysno, raw};

/// A signal set in the kernel's format: one bit per signal, the lowest for signal 1.
pub type SignalSet = u64;

/// The bit of a signal in a set.
pub const fn signal_bit(signal: c_int) -> SignalSet {
    1 << (signal - 1)
}

/// The signals that libc reserves: SIGCANCEL and SIGSETXID.
pub const SIGNALS_OF_LIBC: SignalSet = signal_bit(32) | signal_bit(33);

/// rt_sigprocmask(2) SIG_SETMASK: blocks exactly `set` in this thread. Returns the previous mask.
pub fn set_blocked(set: SignalSet) -> SignalSet {
    mask_signals(libc::SIG_SETMASK, set)
}

/// rt_sigprocmask(2) SIG_BLOCK: blocks `set` in addition, in this thread. Returns the previous
/// mask.
pub fn block(set: SignalSet) -> SignalSet {
    mask_signals(libc::SIG_BLOCK, set)
}

/// rt_sigprocmask(2) SIG_UNBLOCK: unblocks the signals in `set`, in this thread.
pub fn unblock(set: SignalSet) {
    mask_signals(libc::SIG_UNBLOCK, set);
}

/// This thread's mask.
pub fn blocked() -> SignalSet {
    block(0)
}

fn mask_signals(how: c_int, set: SignalSet) -> SignalSet {
    let mut before: SignalSet = 0;
    let (set, before_at) = (&raw const set as usize, &raw mut before as usize);
    // SAFETY: the kernel reads one set and writes another, both alive.
    unsafe {
        raw::syscall4(
            Sysno::rt_sigprocmask as usize,
            how as usize,
            set,
            before_at,
            8,
        )
    };
    before
}

/// rt_sigprocmask(2) as the program called it. Returns the raw result of the system call.
///
/// # Safety
/// The arguments come from a C caller; the kernel checks them.
pub unsafe fn change_blocked(how: usize, new: usize, old: usize, size: usize) -> isize {
    // SAFETY: our caller keeps the same contract.
    unsafe { raw::syscall4(Sysno::rt_sigprocmask as usize, how, new, old, size) as isize }
}

/// rt_tgsigqueueinfo(2) to the calling thread: makes `signal` pending again, with the content of
/// `info`.
///
/// # Safety
/// `info` points to the siginfo_t that arrived with the signal.
pub unsafe fn queue_to_self(signal: c_int, info: *const libc::siginfo_t) -> Result<(), Errno> {
    let call = Sysno::rt_tgsigqueueinfo as usize;
    // SAFETY: the call accesses no memory except `info`, which is only read.
    outcome(unsafe {
        let (process, thread) = (
            raw::syscall0(Sysno::getpid as usize),
            raw::syscall0(Sysno::gettid as usize),
        );
        raw::syscall4(call, process, thread, signal as usize, info as usize)
    })?;
    Ok(())
}

/// tgkill(2) to a thread of this process.
pub fn signal_thread(thread: c_int, signal: c_int) {
    // SAFETY: the call accesses no memory.
    unsafe {
        let process = raw::syscall0(Sysno::getpid as usize);
        raw::syscall3(
            Sysno::tgkill as usize,
            process,
            thread as usize,
            signal as usize,
        );
    }
}

/// Sends a signal to a thread of this process like sigqueue(3), by rt_tgsigqueueinfo(2): libc
/// ignores its own signals if they are sent this way.
pub fn queue_to_thread(thread: c_int, signal: c_int) {
    // SAFETY: zeroes are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_code = libc::SI_QUEUE;
    let (call, info) = (Sysno::rt_tgsigqueueinfo as usize, &raw const info as usize);
    // SAFETY: the kernel reads one siginfo_t, which is alive.
    unsafe {
        let process = raw::syscall0(Sysno::getpid as usize);
        raw::syscall4(call, process, thread as usize, signal as usize, info);
    }
}

/// rt_sigtimedwait(2) without blocking: takes a pending signal of `set` and returns its number.
///
/// # Safety
/// `info` is null or may be written to.
pub unsafe fn take_signal(set: SignalSet, info: *mut libc::siginfo_t) -> Result<c_int, Errno> {
    let (now, set) = ([0_i64; 2], &raw const set as usize);
    let call = Sysno::rt_sigtimedwait as usize;
    // SAFETY: the kernel reads one set and one timespec, both alive; our caller guarantees the
    // rest.
    outcome(unsafe { raw::syscall4(call, set, info as usize, now.as_ptr() as usize, 8) })
        .map(|n| n as c_int)
}

/// signalfd(2): a descriptor that is readable while a signal of `set` is pending.
pub fn signal_descriptor(set: SignalSet) -> Result<c_int, Errno> {
    let (call, flags) = (
        Sysno::signalfd4 as usize,
        libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
    );
    // SAFETY: the kernel reads one set, which is alive.
    outcome(unsafe { raw::syscall4(call, usize::MAX, &raw const set as usize, 8, flags as usize) })
        .map(|n| n as c_int)
}

/// Whether `fd` is a signalfd.
pub fn is_signalfd(fd: c_int) -> bool {
    let mut name = [0_u8; 32];
    let path = format!("/proc/self/fd/{fd}");
    rustix::fs::readlinkat_raw(rustix::fs::CWD, path, &mut name[..])
        .is_ok_and(|n| name[..n] == *b"anon_inode:[signalfd]")
}

/// The kernel's struct sigaction.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KernelAction {
    pub handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

const SA_RESTORER: usize = 0x0400_0000;

impl KernelAction {
    pub const DEFAULT: Self = Self {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };

    /// The same action with another handler, which takes three arguments.
    #[cfg(target_arch = "x86_64")]
    pub fn with_handler(self, handler: usize) -> Self {
        let has_restorer = self.flags & SA_RESTORER != 0;
        Self {
            handler,
            flags: self.flags | libc::SA_SIGINFO as usize | SA_RESTORER,
            restorer: if has_restorer {
                self.restorer
            } else {
                restore as *const () as usize
            },
            mask: self.mask,
        }
    }

    /// The same action with another handler, which takes three arguments. Calls that it interrupts
    /// are not restarted.
    #[cfg(target_arch = "aarch64")]
    pub fn with_handler(self, handler: usize) -> Self {
        Self {
            handler,
            flags: (self.flags | libc::SA_SIGINFO as usize) & !(libc::SA_RESTART as usize),
            ..self
        }
    }
}

/// rt_sigreturn(2), with exactly the instructions that libc uses, by which debuggers recognize a
/// handler's frame.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn restore() {
    std::arch::naked_asm!("mov rax, 15", "syscall")
}

/// rt_sigaction(2) for the signals that libc reserves: returns the current action.
pub fn kernel_action(signal: c_int) -> Result<KernelAction, Errno> {
    let mut action = KernelAction::DEFAULT;
    let (call, at) = (Sysno::rt_sigaction as usize, &raw mut action as usize);
    // SAFETY: the kernel writes one action, which is alive.
    outcome(unsafe { raw::syscall4(call, signal as usize, 0, at, size_of::<u64>()) })?;
    Ok(action)
}

/// rt_sigaction(2) for the signals that libc reserves: changes the action.
///
/// # Safety
/// The action's handler is the default one, or a function with a handler's arguments.
pub unsafe fn set_kernel_action(signal: c_int, action: &KernelAction) -> Result<(), Errno> {
    let (call, at) = (
        Sysno::rt_sigaction as usize,
        std::ptr::from_ref(action) as usize,
    );
    // SAFETY: the kernel reads one action, which is alive; our caller guarantees the rest.
    outcome(unsafe { raw::syscall4(call, signal as usize, at, 0, size_of::<u64>()) })?;
    Ok(())
}

/// rt_sigaction(2) without libc's restorer. All signals are blocked in the handler.
///
/// # Safety
/// `handler` is the address of a function with a handler's three arguments, `restorer` that of a
/// function that calls rt_sigreturn(2).
#[cfg(target_arch = "x86_64")]
pub unsafe fn handle_signal(signal: c_int, handler: usize, restorer: usize) {
    let action = KernelAction {
        handler,
        flags: libc::SA_SIGINFO as usize | libc::SA_RESTART as usize | SA_RESTORER,
        restorer,
        mask: u64::MAX,
    };
    // SAFETY: our caller keeps the same contract.
    let _ = unsafe { set_kernel_action(signal, &action) };
}

/// PR_SET_SYSCALL_USER_DISPATCH: the calling thread's system calls from outside `text` raise SIGSYS
/// while the selector, which must stay in place, says so. None ends the dispatch.
pub fn dispatch_system_calls(how: Option<(&std::ops::Range<usize>, *mut u8)>) -> Result<(), Errno> {
    const PR_SET_SYSCALL_USER_DISPATCH: usize = 59;
    let (on, text, n, selector) = how.map_or((0, 0, 0, std::ptr::null_mut()), |(text, at)| {
        (1, text.start, text.len(), at)
    });
    let (call, option) = (Sysno::prctl as usize, PR_SET_SYSCALL_USER_DISPATCH);
    // SAFETY: the kernel reads the selector, which its owner keeps in place until it has ended the
    // dispatch.
    outcome(unsafe { raw::syscall5(call, option, on, text, n, selector as usize) })?;
    Ok(())
}
