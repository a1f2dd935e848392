//! The functions that read or change the signal mask, report pending signals, or create something
//! that inherits the mask: a thread or a program.
//!
//! While signals are deferred, all signals are blocked. A fiber that begins to run must not see
//! that: it would take it for its own mask, restore it later or pass it on. So the handlers run
//! first.

use crate::context::{self, Context};
use crate::runtime::thread::Thread;
use crate::state::loaded;
use std::arch::naked_asm;
use std::ffi::{CStr, c_char, c_int, c_void};

macro_rules! masks {
    ($(fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            mod $name {
                #![allow(static_mut_refs, missing_abi, clippy::missing_safety_doc)]
                use super::*;

                redhook::hook! {
                    unsafe fn $name($($arg: $type),*) -> c_int => hook {
                        run_deferred_handlers();
                        type Next = unsafe extern "C" fn($($type),*) -> c_int;
                        let next = next_function!($name as Next);
                        // SAFETY: this calls libc's own function with the caller's arguments.
                        unsafe { next($($arg),*) }
                    }
                }
            }
        )*
    };
}

masks! {
    fn sigprocmask(how: c_int, new: *const libc::sigset_t, old: *mut libc::sigset_t);
    fn pthread_sigmask(how: c_int, new: *const libc::sigset_t, old: *mut libc::sigset_t);
    fn sigpending(set: *mut libc::sigset_t);
    fn sigblock(mask: c_int);
    fn sigsetmask(mask: c_int);
    fn siggetmask();
    fn sighold(signal: c_int);
    fn sigrelse(signal: c_int);

    fn pthread_create(
        id: *mut c_void, attributes: *const c_void, begin: *const c_void, argument: *mut c_void
    );
    fn thrd_create(id: *mut c_void, begin: *const c_void, argument: *mut c_void);
    fn posix_spawn(
        id: *mut c_void, path: *const c_char, actions: *const c_void,
        attributes: *const c_void, arguments: *const c_void, variables: *const c_void
    );
    fn posix_spawnp(
        id: *mut c_void, file: *const c_char, actions: *const c_void,
        attributes: *const c_void, arguments: *const c_void, variables: *const c_void
    );
    fn execve(path: *const c_char, arguments: *const c_void, variables: *const c_void);
    fn fexecve(fd: c_int, arguments: *const c_void, variables: *const c_void);
    fn execv(path: *const c_char, arguments: *const c_void);
    fn execvp(file: *const c_char, arguments: *const c_void);
    fn execvpe(file: *const c_char, arguments: *const c_void, variables: *const c_void);
}

redhook::hook! {
    unsafe fn execveat(
        directory: c_int,
        path: *const c_char,
        arguments: *const c_void,
        variables: *const c_void,
        flags: c_int
    ) -> c_int => held_execveat {
        run_deferred_handlers();
        let (path, arguments, variables) = (path as usize, arguments as usize, variables as usize);
        let all = [directory as usize, path, arguments, variables, flags as usize, 0];
        // libc's own function does no more than this, and glibc before 2.34 has none. SAFETY: this
        // makes the system call with the caller's arguments.
        match unsafe { sys::call(syscalls::Sysno::execveat, all) } {
            Ok(_) => 0,
            Err(error) => {
                sys::errno::set(error.0);
                -1
            }
        }
    }
}

/// Defines the variadic function `$name`: it runs the handlers of deferred signals, and jumps to
/// the next function of that name with all registers and the stack unchanged.
macro_rules! variadic {
    ($name:ident, $next:ident) => {
        /// # Safety
        /// The same contract as the function of that name, see exec(3).
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        #[cfg(target_arch = "x86_64")]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                ".cfi_startproc",
                "push rdi",
                "push rsi",
                "push rdx",
                "push rcx",
                "push r8",
                "push r9",
                "push rax",
                ".cfi_adjust_cfa_offset 56",
                "call {next}",
                "mov r11, rax",
                "pop rax",
                "pop r9",
                "pop r8",
                "pop rcx",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                ".cfi_adjust_cfa_offset -56",
                "jmp r11",
                ".cfi_endproc",
                next = sym $next,
            )
        }

        /// Untested, because no aarch64 machine was available.
        ///
        /// # Safety
        /// The same contract as the function of that name, see exec(3).
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        #[cfg(target_arch = "aarch64")]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                ".cfi_startproc",
                "stp x29, x30, [sp, #-80]!",
                ".cfi_adjust_cfa_offset 80",
                ".cfi_rel_offset x29, 0",
                ".cfi_rel_offset x30, 8",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "stp x4, x5, [sp, #48]",
                "stp x6, x7, [sp, #64]",
                "bl {next}",
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]",
                "ldp x2, x3, [sp, #32]",
                "ldp x4, x5, [sp, #48]",
                "ldp x6, x7, [sp, #64]",
                "ldp x29, x30, [sp], #80",
                ".cfi_adjust_cfa_offset -80",
                "br x16",
                ".cfi_endproc",
                next = sym $next,
            )
        }

        extern "C" fn $next() -> *mut c_void {
            const BYTES: &[u8] = concat!(stringify!($name), "\0").as_bytes();
            const NAME: &CStr = match CStr::from_bytes_with_nul(BYTES) {
                Ok(name) => name,
                Err(_) => unreachable!(),
            };
            run_deferred_handlers();
            loaded::next_anyway(NAME)
        }
    };
}

variadic!(execl, next_execl);
variadic!(execlp, next_execlp);
variadic!(execle, next_execle);

/// Runs the handlers of deferred signals, if called from a fiber's own code.
pub extern "C" fn run_deferred_handlers() {
    if context::current() == Context::Fiber
        && let Some(thread) = Thread::current()
        && thread.signals().has_deferred()
        && !thread.host().running().is_null()
    {
        thread.handle_signals(None);
    }
}
