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
use crate::record::unwind::{JumpBuffer, Unwinding};
use crate::sched::{cancel_point, switching};
use crate::worker::current::on_fiber;
use crate::worker::state::Worker;
use core::ffi::{CStr, c_int, c_void};
use core::mem::transmute;

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
    cancel_point::run_cleanups(me);
    unwind(worker, me)
}

/// Unwinds the running fiber, whose result is set, up to the next registered buffer or to its end.
fn unwind(worker: &Worker, me: &Fiber) -> ! {
    let exception = me.locals.unwinding();
    let me: *const Fiber = me;
    // SAFETY: the exception stays in place until the fiber has ended; `stop` ends the fiber at its
    // last frame.
    unsafe {
        exception.write(Unwinding::new(Some(was_caught)));
        _Unwind_ForcedUnwind(exception, stop, me.cast_mut().cast());
    }
    // A frame without unwind tables stopped the unwinding, so the fiber ends without the rest.
    // SAFETY: records are never unmapped.
    switching::exit(worker, unsafe { (*me).result.get() })
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
    let buffer = me.locals.jump_buffer();
    // SAFETY: a registered buffer lies in a frame that has not returned, and libc has filled it in.
    if let Some(registered) = unsafe { buffer.as_ref() }
        && (is_end || registered.is_reached(sp))
    {
        // SAFETY: the frame that registered the buffer has not returned, and the unwinder has left
        // all frames below it.
        unsafe { longjmp(buffer, 1) }
    }
    if is_end && let Ok(worker) = on_fiber() {
        switching::exit(worker, me.result.get());
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
fn forward(name: &CStr, buffer: *mut JumpBuffer) {
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
        return forward(c"__pthread_register_cancel", buffer);
    };
    let me = worker.running();
    // SAFETY: the caller passes a buffer in its own frame.
    unsafe { (*buffer).prev = me.locals.jump_buffer() };
    me.locals.set_jump_buffer(buffer);
}

/// The C implementation of pthread_cleanup_pop(3) calls this.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_unregister_cancel(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return forward(c"__pthread_unregister_cancel", buffer);
    };
    let me = worker.running();
    // SAFETY: the caller registered this buffer before.
    me.locals.set_jump_buffer(unsafe { (*buffer).prev });
}

/// A cleanup handler in C has run and calls this to continue the unwinding.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __pthread_unwind_next(buffer: *mut JumpBuffer) {
    let Ok(worker) = on_fiber() else {
        return forward(c"__pthread_unwind_next", buffer);
    };
    let me = worker.running();
    // SAFETY: the caller registered this buffer before.
    me.locals.set_jump_buffer(unsafe { (*buffer).prev });
    unwind(worker, me)
}
