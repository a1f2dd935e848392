//! libc functions that call back into the program: the function runs on a pool thread, and each
//! call-back on the fiber.
//!
//! The pool thread stores the call-back where its fiber finds it, unparks the fiber, and waits. The
//! fiber makes the call as libc's function would have, errno included, and parks again. A walk
//! through a directory tree on disk therefore blocks no other fiber; each call-back costs two
//! hand-overs.
//!
//! A call-back may never return: it may throw an exception, jump, or end its fiber. Before its
//! frames are removed, the fiber tells the pool thread to end libc's function, and waits until it
//! has ([`link::ActiveCallbacks::end_abandoned`]).
//!
//! Invariant: exactly one of the two runs at a time. The `CallbackJob` is on the fiber's stack and
//! outlives the pool thread's use of it.

pub mod link;

use crate::context;
use crate::engine::{FdPin, Lane, Run};
use crate::runtime::call::Call;
use crate::runtime::verdict::Verdict;
use link::{Link, Phase};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use sys::errno;

struct CallbackJob<R, F> {
    function: Option<F>,
    result: Option<R>,
    errno: c_int,
    link: Link,
}

thread_local! {
    /// The `Link` of the function that runs on this pool thread.
    static LINK: Cell<*const Link> = const { Cell::new(std::ptr::null()) };
}

/// Runs `function`, which calls libc's own function and may use [`call_back`], on a pool thread,
/// and returns its result.
pub fn run_with_callbacks<R, F: FnOnce() -> R>(
    call: &Call<'_>,
    callback: *const c_void,
    function: F,
) -> Verdict<R> {
    match call.reason_not_to_offload() {
        Some(reason) => Verdict::PassThrough(reason),
        None => Verdict::from_pool(run_on_pool(call, callback, function)),
    }
}

fn run_on_pool<R, F: FnOnce() -> R>(
    call: &Call<'_>,
    callback: *const c_void,
    function: F,
) -> Option<R> {
    let mut job = CallbackJob {
        function: Some(function),
        result: None,
        errno: errno::get(),
        link: Link::new(call.fiber, Arc::clone(call.thread.remote()), callback),
    };
    let job = &raw mut job;
    let run = Run {
        code: pool_side::<R, F>,
        data: job.cast(),
        pin: FdPin::None,
        lane: Lane::Peers,
    };
    if !call.start_on_pool(run) {
        return None;
    }
    // SAFETY: the link is on this stack; the rest of the job is not accessed before the
    // function has returned.
    let link = unsafe { &(*job).link };
    loop {
        // The pool thread unparks the fiber once per message.
        call.await_function();
        let callback = match &*link.phase() {
            Phase::CallBack(callback) => *callback,
            _ => break,
        };
        call.thread.callbacks().add(link);
        {
            let _program = context::program(call.thread.slot());
            // SAFETY: the call-back is on the stack of the pool thread, which waits for the answer;
            // the link is on this stack.
            unsafe { guarded_frame::call(&callback, link) };
        }
        call.thread.callbacks().remove(link);
        let mut phase = link.phase();
        *phase = Phase::Function;
        link.answered.notify_all();
    }
    // SAFETY: the pool thread no longer uses it.
    let job = unsafe { &mut *job };
    errno::set(job.errno);
    job.result.take()
}

/// The pool thread's part.
///
/// # Safety
/// `data` is a `CallbackJob<R, F>` whose fiber stays parked until it is unparked.
unsafe fn pool_side<R, F: FnOnce() -> R>(data: *mut c_void) {
    let job = data.cast::<CallbackJob<R, F>>();
    // SAFETY: the caller guarantees `data`; the fiber only accesses the link until the function has
    // returned.
    let (link, function) = unsafe { (&raw const (*job).link, (*job).function.take()) };
    let Some(function) = function else { return };
    LINK.set(link);
    // SAFETY: the fiber only accesses the link until the function has returned.
    unsafe { errno::set((*job).errno) };
    let result = function();
    LINK.set(std::ptr::null());
    // SAFETY: the job exists until its fiber continues, which requires the unpark below.
    let (remote, fiber) = unsafe {
        (*job).result = Some(result);
        (*job).errno = errno::get();
        let link = &*link;
        let (remote, fiber) = (Arc::clone(&link.remote), link.fiber);
        let mut phase = link.phase();
        if matches!(*phase, Phase::Abandoned) {
            // The fiber is not parked; it waits in `Link::end`.
            *phase = Phase::Done;
            link.answered.notify_all();
            return;
        }
        *phase = Phase::Done;
        (remote, fiber)
    };
    remote.unpark(fiber);
}

/// Called from within libc's function: makes the fiber run the program's call-back, and returns its
/// result. Returns `stop` once the fiber has left by a jump or exception.
///
/// # Panics
/// Outside `run_with_callbacks`. libc calls back on the thread that called its function, so that is
/// a bug.
pub fn call_back<R>(stop: R, call: impl FnOnce(*const c_void) -> R) -> R {
    // SAFETY: LINK is set while the function runs, and the job exists that long.
    let link = unsafe { LINK.get().as_ref() }.expect("within a conversation");
    if matches!(*link.phase(), Phase::Abandoned) {
        return stop;
    }
    let mut call = Some(call);
    let mut result = None;
    let mut errno = errno::get();
    let mut callback = || {
        errno::set(errno);
        result = call.take().map(|call| call(link.callback));
        errno = errno::get();
    };
    let callback: &mut dyn FnMut() = &mut callback;
    // SAFETY: the fiber calls it while this thread waits, and not after it has answered.
    let callback =
        unsafe { std::mem::transmute::<&mut dyn FnMut(), *mut (dyn FnMut() + 'static)>(callback) };
    *link.phase() = Phase::CallBack(callback);
    link.remote.unpark(link.fiber);
    let mut phase = link.phase();
    while !matches!(*phase, Phase::Function | Phase::Abandoned) {
        phase = link.answered.wait(phase);
    }
    let is_abandoned = matches!(*phase, Phase::Abandoned);
    drop(phase);
    if is_abandoned {
        return stop;
    }
    errno::set(errno);
    result.expect("the fiber has called back")
}

/// The frame from which call-backs are called. Its personality routine notices exceptions that pass
/// through the frame, and the unwinding that ends a thread.
mod guarded_frame {
    use super::Link;
    use crate::runtime::thread::Thread;
    use std::arch::naked_asm;
    use std::ffi::{c_int, c_void};

    type CallBack = *mut (dyn FnMut() + 'static);

    /// Calls `*callback`, which belongs to the job of `link`.
    ///
    /// # Safety
    /// The call-back may be called now.
    pub unsafe fn call(callback: &CallBack, link: *const Link) {
        // SAFETY: the caller guarantees that the call-back may be called.
        unsafe { frame(enter, callback, link) }
    }

    unsafe extern "C" fn enter(callback: *const CallBack) {
        // SAFETY: the caller of `call` guarantees that the call-back may be called.
        unsafe { (**callback)() }
    }

    /// The register that holds the link during the call, in the numbering of unwinders.
    #[cfg(target_arch = "x86_64")]
    const LINK: c_int = 3;
    #[cfg(target_arch = "aarch64")]
    const LINK: c_int = 19;

    #[cfg(target_arch = "x86_64")]
    #[unsafe(naked)]
    unsafe extern "C" fn frame(
        enter: unsafe extern "C" fn(*const CallBack),
        callback: *const CallBack,
        link: *const Link,
    ) {
        naked_asm!(
            ".cfi_startproc",
            // Encoded relative to the instruction pointer, in 4 bytes.
            ".cfi_personality 0x1b, {personality}",
            "push rbx",
            ".cfi_adjust_cfa_offset 8",
            ".cfi_offset rbx, -16",
            "mov rbx, rdx",
            "mov rax, rdi",
            "mov rdi, rsi",
            "call rax",
            "pop rbx",
            ".cfi_adjust_cfa_offset -8",
            ".cfi_restore rbx",
            "ret",
            ".cfi_endproc",
            personality = sym personality,
        )
    }

    /// The same frame on aarch64. Untested, because no aarch64 machine was available.
    #[cfg(target_arch = "aarch64")]
    #[unsafe(naked)]
    unsafe extern "C" fn frame(
        enter: unsafe extern "C" fn(*const CallBack),
        callback: *const CallBack,
        link: *const Link,
    ) {
        naked_asm!(
            ".cfi_startproc",
            ".cfi_personality 0x1b, {personality}",
            "stp x29, x30, [sp, #-32]!",
            ".cfi_adjust_cfa_offset 32",
            ".cfi_offset x29, -32",
            ".cfi_offset x30, -24",
            "str x19, [sp, #16]",
            ".cfi_offset x19, -16",
            "mov x29, sp",
            "mov x19, x2",
            "mov x9, x0",
            "mov x0, x1",
            "blr x9",
            "ldr x19, [sp, #16]",
            "ldp x29, x30, [sp], #32",
            ".cfi_adjust_cfa_offset -32",
            "ret",
            ".cfi_endproc",
            personality = sym personality,
        )
    }

    const CLEANUP_PHASE: c_int = 2;
    const CONTINUE_UNWIND: c_int = 8;

    unsafe extern "C" {
        fn _Unwind_GetGR(context: *mut c_void, register: c_int) -> usize;
    }

    /// Catches nothing. Notices that the frame is about to be removed, and the job with
    /// it.
    extern "C" fn personality(
        _: c_int,
        actions: c_int,
        _: u64,
        _: *mut c_void,
        context: *mut c_void,
    ) -> c_int {
        if actions & CLEANUP_PHASE != 0 {
            // SAFETY: the unwinder's context, for the frame above.
            let left = unsafe { _Unwind_GetGR(context, LINK) };
            // SAFETY: a fiber runs on its own thread, which is attached.
            if let Some(thread) = Thread::attached() {
                let fiber = thread.host().running();
                thread
                    .callbacks()
                    .end_abandoned(fiber, |link| link.addr() == left);
            }
        }
        CONTINUE_UNWIND
    }
}
