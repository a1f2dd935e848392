//! pthread_exit(3) on a fiber ends the fiber instead of the thread: it unwinds the frames, runs C++
//! destructors and the handlers of `pthread_cleanup_push`, and makes the value the fiber's result.
//!
//! libc's own pthread_exit would end the OS thread and all its fibers. C code compiled without
//! `-fexceptions` registers each cleanup handler with libc as a jump buffer, in a list per thread.
//! This module keeps that list per fiber instead. Unwinding stops at each frame that has registered
//! a buffer and jumps there; the handler returns through `__pthread_unwind_next`.
//!
//! Invariant: a registered buffer lies in a frame of its fiber that has not returned.

use crate::record::fiber::Fiber;
use crate::record::key;
use crate::sched::cancel;
use crate::sched::switching as sched;
use crate::worker::current::on_fiber;
use crate::worker::state::Worker;
use core::ffi::{CStr, c_int, c_void};
use core::mem::transmute;
use core::ptr::null_mut;

#[cfg(target_arch = "x86_64")]
const REGISTERS: usize = 8;
#[cfg(target_arch = "aarch64")]
const REGISTERS: usize = 22;

/// `__pthread_unwind_buf_t`.
#[repr(C)]
pub(crate) struct JumpBuffer {
    registers: [u64; REGISTERS],
    mask_was_saved: c_int,
    /// The buffer that was registered before this one.
    prev: *mut JumpBuffer,
    reserved: [*mut c_void; 3],
}

impl JumpBuffer {
    /// Returns whether the frame with stack pointer `sp` is the one that registered the buffer, or
    /// one of its callers.
    #[cfg(target_arch = "x86_64")]
    fn is_reached(&self, sp: usize) -> bool {
        const RSP: usize = 6;
        let guard: u64;
        // SAFETY: reads the word of the thread control block with which libc mangles the pointers
        // in jump buffers.
        unsafe {
            core::arch::asm!("mov {}, fs:[0x30]", out(reg) guard, options(nostack, preserves_flags, readonly))
        };
        sp as u64 >= self.registers[RSP].rotate_right(17) ^ guard
    }

    /// Does the same on aarch64. Untested, because no aarch64 machine was available. The key that
    /// mangles the stack pointer cannot be read here. Therefore this function recognises the frame
    /// only from its caller, when the frame itself has been unwound already; its memory is still
    /// intact.
    #[cfg(target_arch = "aarch64")]
    fn is_reached(&self, sp: usize) -> bool {
        sp > core::ptr::from_ref(self).addr()
    }
}

/// `_Unwind_Exception`.
#[repr(C, align(16))]
pub(crate) struct Unwinding {
    class: u64,
    cleanup: Option<extern "C" fn(c_int, *mut Unwinding)>,
    reserved: [usize; 2],
}

impl Unwinding {
    pub(crate) const fn new() -> Unwinding {
        Unwinding {
            class: 0,
            cleanup: Some(was_caught),
            reserved: [0; 2],
        }
    }
}

type Stop = extern "C" fn(c_int, c_int, u64, *mut Unwinding, *mut c_void, *mut c_void) -> c_int;

const END_OF_STACK: c_int = 16;
const NO_REASON: c_int = 0;

unsafe extern "C" {
    fn _Unwind_ForcedUnwind(exception: *mut Unwinding, stop: Stop, argument: *mut c_void) -> c_int;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    fn longjmp(buffer: *mut JumpBuffer, value: c_int) -> !;
}

/// Ends the running fiber with `result`, unwinding it frame by frame.
fn leave(worker: &Worker, result: *mut c_void) -> ! {
    let me = worker.running();
    me.result.set(result);
    cancel::run_cleanups(me);
    unwind(worker, me)
}

/// Unwinds the running fiber, whose result is set, up to the next registered buffer or to its end.
fn unwind(worker: &Worker, me: &Fiber) -> ! {
    let exception = key::unwinding(me);
    let me: *const Fiber = me;
    // SAFETY: the exception stays in place until the fiber has ended; `stop` ends the fiber at its
    // last frame.
    unsafe {
        exception.write(Unwinding::new());
        _Unwind_ForcedUnwind(exception, stop, me.cast_mut().cast());
    }
    // A frame without unwind tables stopped the unwinding, so the fiber ends without the rest.
    // SAFETY: records are never unmapped.
    sched::exit(worker, unsafe { (*me).result.get() })
}

/// The unwinder calls this before it unwinds each frame.
extern "C" fn stop(
    _version: c_int,
    actions: c_int,
    _class: u64,
    _exception: *mut Unwinding,
    context: *mut c_void,
    me: *mut c_void,
) -> c_int {
    // SAFETY: `unwind` passed the running fiber; records are never unmapped.
    let me = unsafe { &*me.cast::<Fiber>() };
    // SAFETY: the unwinder passed this context, which is valid during this call.
    let sp = unsafe { _Unwind_GetCFA(context) };
    let is_end = actions & END_OF_STACK != 0;
    let buffer = key::jump_buffer(me);
    // SAFETY: a registered buffer lies in a frame that has not returned, and libc has filled it in.
    if let Some(registered) = unsafe { buffer.as_ref() }
        && (is_end || registered.is_reached(sp))
    {
        // SAFETY: the frame that registered the buffer has not returned, and the unwinder has left
        // all frames below it.
        unsafe { longjmp(buffer, 1) }
    }
    if is_end && let Ok(worker) = on_fiber() {
        sched::exit(worker, me.result.get());
    }
    NO_REASON
}

/// Reports that a C++ catch block caught the unwinding and did not rethrow it.
extern "C" fn was_caught(_reason: c_int, _exception: *mut Unwinding) {
    let _ = rustix::io::write(
        rustix::stdio::stderr(),
        b"fiber: a catch (...) block swallowed pthread_exit; it must end with `throw;`\n",
    );
    std::process::abort();
}

/// Returns the symbol `name` of the next library in search order, which is libc.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: dlsym only looks the name up.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn pthread_exit(result: *mut c_void) -> ! {
    if let Ok(worker) = on_fiber() {
        leave(worker, result);
    }
    type Exit = extern "C" fn(*mut c_void) -> !;
    // SAFETY: this is the type that POSIX gives the function, and every libc has it.
    let exit = unsafe { transmute::<*mut c_void, Exit>(next(c"pthread_exit")) };
    exit(result)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn thrd_exit(result: c_int) -> ! {
    pthread_exit(result as isize as *mut c_void)
}

/// Off a fiber: calls libc's function `name`, if libc has it.
fn pass_on(name: &CStr, buffer: *mut JumpBuffer) {
    type Function = extern "C" fn(*mut JumpBuffer);
    let function = next(name);
    if !function.is_null() {
        // SAFETY: libc's three functions on jump buffers have this type.
        let function = unsafe { transmute::<*mut c_void, Function>(function) };
        function(buffer);
    }
}

/// The C implementation of pthread_cleanup_push(3) calls this.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_register_cancel(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return pass_on(c"__pthread_register_cancel", buffer);
    };
    let me = worker.running();
    // SAFETY: the caller passes a buffer in its own frame.
    unsafe { (*buffer).prev = key::jump_buffer(me) };
    key::set_jump_buffer(me, buffer);
}

/// The C implementation of pthread_cleanup_pop(3) calls this.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_unregister_cancel(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return pass_on(c"__pthread_unregister_cancel", buffer);
    };
    // SAFETY: the caller registered this buffer before.
    key::set_jump_buffer(worker.running(), unsafe { (*buffer).prev });
}

/// A cleanup handler in C has run and calls this to continue the unwinding.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_unwind_next(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return pass_on(c"__pthread_unwind_next", buffer);
    };
    let me = worker.running();
    // SAFETY: the caller registered this buffer before.
    key::set_jump_buffer(me, unsafe { (*buffer).prev });
    unwind(worker, me)
}

/// Marks that no buffer is registered.
pub(crate) const NONE: *mut JumpBuffer = null_mut();
