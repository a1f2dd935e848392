//! Syscall User Dispatch: how a system call of a traced thread reaches the shim, and how it
//! continues.
//!
//! ```text
//!   syscall (libc's text)  --SIGSYS-->  dispatched()  --sigreturn-->  syscall (our text)
//!     --jmp-->  behind the first one
//! ```
//!
//! The handler does not make the call itself. It only moves the thread to an instruction in the
//! shim's text that makes the call, with all registers unchanged. So all effects of a call on its
//! thread (its mask, its signal stack, its restart after a handler, a longjmp out of one) are the
//! same as without tracing. The data that the shim's instruction needs are on the stack, below the
//! red zone:
//!
//! ```text
//!   sp before   -> | the caller's frame
//!                  | red zone, 128 bytes
//!                  | return address
//!                  | place                    [timed only]
//!   sp          -> | ticks when it began      [timed only]
//! ```
//!
//! Three calls work differently. rt_sigreturn(2) needs its stack pointer and never returns. The
//! clone(2) family, which returns twice, is made in place, with dispatch off until the thread's
//! next hook or scheduling round. rt_sigprocmask(2), which could block SIGSYS, is made in the
//! handler.

use sys::errno::Errno;

#[cfg(target_arch = "x86_64")]
pub use x86_64::{begin, end, text_of_the_shim};

/// Not available on other machines.
#[cfg(not(target_arch = "x86_64"))]
pub fn begin(
    _selector: &std::sync::atomic::AtomicU8,
    _text: &std::ops::Range<usize>,
) -> Result<(), Errno> {
    Err(Errno(libc::ENOSYS))
}

#[cfg(not(target_arch = "x86_64"))]
pub fn text_of_the_shim() -> std::ops::Range<usize> {
    0..0
}

#[cfg(not(target_arch = "x86_64"))]
pub fn end() {}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::super::counters::{self, CallSite};
    use super::super::{ALLOW, CURRENT, SyscallTracer};
    use super::Errno;
    use crate::context;
    use crate::record::handlers;
    use crate::state::sigsys;
    use std::arch::naked_asm;
    use std::ffi::{c_int, c_long, c_void};
    use std::ops::Range;
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
    use sys::stopwatch;
    use syscalls::Sysno;

    /// The arguments of a system call.
    type Arguments = [usize; 6];

    /// The `si_code` of a dispatched call.
    const SYS_USER_DISPATCH: c_int = 2;

    /// The bytes below the stack pointer that a function may use without moving it.
    const RED_ZONE: usize = 128;

    /// The number of words that the handler pushes.
    const FRAME: usize = 3;

    /// Starts to dispatch the calling thread's system calls from outside `text`, as `selector`
    /// says.
    pub fn begin(selector: &AtomicU8, text: &Range<usize>) -> Result<(), Errno> {
        if !text.contains(&restorer()) {
            return Err(Errno(libc::ENOEXEC));
        }
        install();
        sys::unblock(sys::signal_bit(libc::SIGSYS));
        sys::dispatch_system_calls(Some((text, selector.as_ptr())))
    }

    /// Ends the dispatch. Call it on the same thread.
    pub fn end() {
        let _ = sys::dispatch_system_calls(None);
    }

    /// Installs the shim's handler in place of the program's own, which `runtime/signal/actions.rs`
    /// has recorded.
    fn install() {
        if !sigsys::note_owned() {
            // SAFETY: both are functions of the kinds that the kernel calls, and they are never
            // unloaded.
            unsafe {
                sys::handle_signal(libc::SIGSYS, dispatched as *const () as usize, restorer())
            };
        }
    }

    /// The addresses of the mapping that contains the shim's code; empty if the loader does not
    /// know it.
    pub fn text_of_the_shim() -> Range<usize> {
        unsafe extern "C" fn visit(
            object: *mut libc::dl_phdr_info,
            _: usize,
            found: *mut c_void,
        ) -> c_int {
            // SAFETY: the loader passes an object's headers, and `found` comes from the caller
            // below.
            let (object, found) = unsafe { (&*object, &mut *found.cast::<Range<usize>>()) };
            // SAFETY: the object has `dlpi_phnum` headers.
            let headers =
                unsafe { std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
            let text = headers
                .iter()
                .filter(|header| header.p_type == libc::PT_LOAD)
                .map(|header| {
                    let begin = (object.dlpi_addr + header.p_vaddr) as usize;
                    begin..begin + header.p_memsz as usize
                })
                .find(|part| part.contains(&(dispatched as *const () as usize)));
            let is_ours = text.is_some();
            *found = text.unwrap_or_default();
            c_int::from(is_ours)
        }
        let mut found = 0..0;
        // SAFETY: `visit` expects exactly these arguments.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
        found
    }

    /// The handler of SIGSYS. It runs with all signals blocked, and makes its system calls from the
    /// shim's text.
    unsafe extern "C" fn dispatched(
        number: c_int,
        info: *mut libc::siginfo_t,
        context: *mut c_void,
    ) {
        // SAFETY: these are the kernel's arguments to a handler.
        let (code, registers) =
            unsafe { ((*info).si_code, &mut *context.cast::<libc::ucontext_t>()) };
        let tracer = CURRENT.get();
        if code != SYS_USER_DISPATCH || tracer.is_null() {
            return handlers::forward(number, info, context);
        }
        // SAFETY: the tracer belongs to this thread and is alive until `end`.
        continue_call(unsafe { &*tracer }, registers);
    }

    /// Arranges that the interrupted call is made.
    fn continue_call(tracer: &SyscallTracer, context: &mut libc::ucontext_t) {
        let registers = &mut context.uc_mcontext.gregs;
        let argument = |register: c_int| registers[register as usize] as usize;
        let call = argument(libc::REG_RAX);
        let arguments: Arguments = [
            libc::REG_RDI,
            libc::REG_RSI,
            libc::REG_RDX,
            libc::REG_R10,
            libc::REG_R8,
            libc::REG_R9,
        ]
        .map(argument);
        let (at, stack) = (argument(libc::REG_RIP), argument(libc::REG_RSP));
        match Sysno::new(call) {
            Some(Sysno::rt_sigreturn) => {
                registers[libc::REG_RIP as usize] = last as *const () as i64
            }
            Some(Sysno::rt_sigprocmask) => change_mask(context, &arguments),
            Some(known @ (Sysno::clone | Sysno::clone3 | Sysno::fork | Sysno::vfork)) => {
                count(tracer, known, &arguments, at, stack);
                tracer.selector.store(ALLOW, Relaxed);
                tracer.lapsed.set(true);
                registers[libc::REG_RIP as usize] -= 2;
            }
            known => {
                let site = known.and_then(|known| count(tracer, known, &arguments, at, stack));
                let frame = stack - RED_ZONE - FRAME * size_of::<usize>();
                let (way, site) = match site {
                    None => (untimed as *const () as i64, 0),
                    Some(site) => (timed as *const () as i64, std::ptr::from_ref(site) as usize),
                };
                // SAFETY: the stack below the red zone of the interrupted function is free.
                unsafe {
                    (frame as *mut [usize; FRAME]).write([stopwatch::ticks() as usize, site, at])
                };
                registers[libc::REG_RSP as usize] = frame as i64;
                registers[libc::REG_RIP as usize] = way;
            }
        }
    }

    /// Counts a call that can block, if a fiber makes it.
    fn count<'a>(
        tracer: &'a SyscallTracer,
        call: Sysno,
        arguments: &Arguments,
        at: usize,
        stack: usize,
    ) -> Option<&'a CallSite> {
        let wait = calltable::wait_of(call as c_long)?;
        if !wait.can_wait(arguments) {
            return None;
        }
        if context::active().is_null() || tracer.host.running().is_null() {
            return None;
        }
        let by = match tracer.passing.get() {
            0 if tracer.is_own(stack) => counters::SHIM,
            row => row,
        };
        Some(tracer.sites.count(call as u32, by, at))
    }

    impl SyscallTracer {
        /// Whether the shim itself called libc, for one of its locks. libc's wrappers that make
        /// system calls have no frame, so the caller's address is at the top of the stack.
        fn is_own(&self, stack: usize) -> bool {
            // SAFETY: this reads the top of the interrupted thread's stack.
            self.text.contains(&unsafe { *(stack as *const usize) })
        }
    }

    /// Makes rt_sigprocmask(2) in the handler. Because sigreturn would undo it, it changes the mask
    /// that sigreturn restores, which never contains SIGSYS.
    fn change_mask(context: &mut libc::ucontext_t, arguments: &Arguments) {
        // The kernel's set is the first 8 bytes of libc's set.
        let saved = (&raw mut context.uc_sigmask).cast::<u64>();
        let sigsys = sys::signal_bit(libc::SIGSYS);
        // SAFETY: the context belongs to the kernel and is alive; the arguments come from the
        // program, and the kernel checks them.
        unsafe {
            sys::set_blocked(saved.read());
            let result =
                sys::change_blocked(arguments[0], arguments[1], arguments[2], arguments[3]);
            saved.write(sys::blocked() & !sigsys);
            context.uc_mcontext.gregs[libc::REG_RAX as usize] = result as i64;
        }
    }

    /// Ends a signal handler of the program with rt_sigreturn(2).
    #[unsafe(naked)]
    unsafe extern "C" fn last() {
        naked_asm!("syscall", "ud2")
    }

    /// Ends the handler of SIGSYS with rt_sigreturn(2). The handler returns to the instruction
    /// behind the nop ([`restorer`]). Unwinders look up the byte before a return address; they know
    /// the frame of a signal by libc's instructions, which are these, if no other function is
    /// there.
    #[unsafe(naked)]
    unsafe extern "C" fn restore() {
        naked_asm!("nop", "mov rax, 15", "syscall", "ud2")
    }

    fn restorer() -> usize {
        restore as *const () as usize + 1
    }

    /// Any other call. The kernel clobbers rcx and r11, so rcx is free for the return address.
    #[unsafe(naked)]
    unsafe extern "C" fn untimed() {
        naked_asm!(
            ".cfi_startproc",
            ".cfi_signal_frame",
            ".cfi_def_cfa rsp, {size}",
            ".cfi_offset rip, {back} - {size}",
            "syscall",
            "mov rcx, qword ptr [rsp + {back}]",
            "lea rsp, [rsp + {size}]",
            ".cfi_def_cfa rsp, 0",
            ".cfi_register rip, rcx",
            "jmp rcx",
            ".cfi_endproc",
            size = const RED_ZONE + FRAME * size_of::<usize>(),
            back = const 2 * size_of::<usize>(),
        )
    }

    /// A call whose duration is recorded in its [`CallSite`].
    #[unsafe(naked)]
    unsafe extern "C" fn timed() {
        naked_asm!(
            ".cfi_startproc",
            ".cfi_signal_frame",
            ".cfi_def_cfa rsp, {size}",
            ".cfi_offset rip, {back} - {size}",
            "syscall",
            "push rax",
            ".cfi_adjust_cfa_offset 8",
            "push rdx",
            ".cfi_adjust_cfa_offset 8",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "sub rax, qword ptr [rsp + 16]", // since it began
            "mov rcx, qword ptr [rsp + 24]", // its place
            "add qword ptr [rcx], rax",      // ticks
            "cmp rax, qword ptr [rcx + 8]",  // longest
            "jbe 2f",
            "mov qword ptr [rcx + 8], rax",
            "2: cmp rax, qword ptr [rcx + 24]", // limit
            "jb 3f",
            "add qword ptr [rcx + 16], 1", // blocked
            "3: pop rdx",
            ".cfi_adjust_cfa_offset -8",
            "pop rax",
            ".cfi_adjust_cfa_offset -8",
            "mov rcx, qword ptr [rsp + {back}]",
            "lea rsp, [rsp + {size}]",
            ".cfi_def_cfa rsp, 0",
            ".cfi_register rip, rcx",
            "jmp rcx",
            ".cfi_endproc",
            size = const RED_ZONE + FRAME * size_of::<usize>(),
            back = const 2 * size_of::<usize>(),
        )
    }
}
