//! pthread_exit(3) on a fiber ends the fiber, as it ends a thread: the frames are unwound, C++
//! destructors and the handlers of `pthread_cleanup_push` run, and the value is the fiber's result.
//!
//! libc's own would end the OS thread, and all its fibers with it. C code compiled without
//! `-fexceptions` registers its handlers with libc as jump buffers in a list of the thread's; here
//! the list is the fiber's. Unwinding stops at each frame that has registered one and jumps there;
//! the handler comes back by `__pthread_unwind_next`.
//!
//! Invariant: a registered buffer lies in a frame of its fiber that has not returned.

use crate::cancel;
use crate::fiber::Fiber;
use crate::key;
use crate::sched;
use crate::sync::on_fiber;
use crate::worker::Worker;
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
    /// The one that was registered before it.
    prev: *mut JumpBuffer,
    reserved: [*mut c_void; 3],
}

impl JumpBuffer {
    /// Whether a frame whose stack pointer was `sp` is the one that registered the buffer, or one
    /// of its callers.
    #[cfg(target_arch = "x86_64")]
    fn is_reached(&self, sp: usize) -> bool {
        const RSP: usize = 6;
        let guard: u64;
        // SAFETY: reads the word of the thread's control block with which libc disguises what is in
        // jump buffers.
        unsafe {
            core::arch::asm!("mov {}, fs:[0x30]", out(reg) guard, options(nostack, preserves_flags, readonly))
        };
        sp as u64 >= self.registers[RSP].rotate_right(17) ^ guard
    }

    /// The same. Untested: no aarch64 machine was at hand. What disguises the stack pointer is not
    /// to be had here, so the frame has been unwound when its caller is recognised; its memory is
    /// still in place.
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

/// Ends the running fiber with `result`, frame by frame.
fn leave(worker: &Worker, result: *mut c_void) -> ! {
    let me = worker.running();
    me.result.set(result);
    cancel::run_cleanups(me);
    unwind(worker, me)
}

/// Unwinds the running fiber, which has its result, up to the next buffer that was registered, or
/// to its end.
fn unwind(worker: &Worker, me: &Fiber) -> ! {
    let exception = key::unwinding(me);
    let me: *const Fiber = me;
    // SAFETY: the exception stays in place until the fiber has ended; `stop` ends it at its last
    // frame.
    unsafe {
        exception.write(Unwinding::new());
        _Unwind_ForcedUnwind(exception, stop, me.cast_mut().cast());
    }
    // A frame without unwind tables is in the way: the fiber ends without the rest.
    // SAFETY: records are never unmapped.
    sched::exit(worker, unsafe { (*me).result.get() })
}

/// Looks at each frame before it is unwound.
extern "C" fn stop(
    _version: c_int,
    actions: c_int,
    _class: u64,
    _exception: *mut Unwinding,
    context: *mut c_void,
    me: *mut c_void,
) -> c_int {
    // SAFETY: the running fiber, as `unwind` passed it; records are never unmapped.
    let me = unsafe { &*me.cast::<Fiber>() };
    // SAFETY: the unwinder's context, valid during this call.
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

/// C++ caught the unwinding and did not throw it on.
extern "C" fn was_caught(_reason: c_int, _exception: *mut Unwinding) {
    let _ = rustix::io::write(
        rustix::stdio::stderr(),
        b"fiber: a catch (...) block swallowed pthread_exit; it must end with `throw;`\n",
    );
    std::process::abort();
}

/// What the library behind this one has under `name`: libc.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: a look-up by name.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn pthread_exit(result: *mut c_void) -> ! {
    if let Ok(worker) = on_fiber() {
        leave(worker, result);
    }
    type Exit = extern "C" fn(*mut c_void) -> !;
    // SAFETY: POSIX's type of the function of this name, which every libc has.
    let exit = unsafe { transmute::<*mut c_void, Exit>(next(c"pthread_exit")) };
    exit(result)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn thrd_exit(result: c_int) -> ! {
    pthread_exit(result as isize as *mut c_void)
}

/// Calls libc's function of this name, off a fiber; nothing where it has none.
fn pass_on(name: &CStr, buffer: *mut JumpBuffer) {
    type Function = extern "C" fn(*mut JumpBuffer);
    let function = next(name);
    if !function.is_null() {
        // SAFETY: the type of libc's three functions on jump buffers.
        let function = unsafe { transmute::<*mut c_void, Function>(function) };
        function(buffer);
    }
}

/// pthread_cleanup_push(3) in C.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_register_cancel(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return pass_on(c"__pthread_register_cancel", buffer);
    };
    let me = worker.running();
    // SAFETY: the caller's, in its frame.
    unsafe { (*buffer).prev = key::jump_buffer(me) };
    key::set_jump_buffer(me, buffer);
}

/// pthread_cleanup_pop(3) in C.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_unregister_cancel(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return pass_on(c"__pthread_unregister_cancel", buffer);
    };
    // SAFETY: the caller's, registered before.
    key::set_jump_buffer(worker.running(), unsafe { (*buffer).prev });
}

/// A handler of C's has run: unwinding goes on.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_unwind_next(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return pass_on(c"__pthread_unwind_next", buffer);
    };
    let me = worker.running();
    // SAFETY: the caller's, registered before.
    key::set_jump_buffer(me, unsafe { (*buffer).prev });
    unwind(worker, me)
}

/// No buffer.
pub(crate) const NONE: *mut JumpBuffer = null_mut();
