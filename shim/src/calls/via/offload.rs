//! Calls that no engine supports: libc's whole function runs on a pool thread while its fiber is
//! parked.
//!
//! State that libc keeps per thread is copied to the pool thread and back: errno, h_errno, the
//! locale. Do not use this for functions that call back into the program
//! ([`crate::runtime::callback`] handles those), nor for functions whose result is in thread-local
//! memory.

use crate::calls::{Verdict, results};
use crate::engine::{FdPin, Lane, Request, Run};
use crate::hooks;
use crate::runtime::call::Call;
use policy::Reason;
use std::ffi::{c_int, c_void};
use sys::errno;

/// A call on its way to the pool and back. It is on its fiber's stack.
struct PoolCall<R, F> {
    function: Option<F>,
    result: Option<R>,
    errno: c_int,
    h_errno: c_int,
    locale: libc::locale_t,
}

/// Runs `function`, which calls libc's own function, on a pool thread, and returns its result.
pub fn call_libc<R, F: FnOnce() -> R>(call: &Call<'_>, function: F) -> Verdict<R> {
    call_libc_pinning(call, FdPin::None, function)
}

/// Like [`call_libc`]. The function is about a descriptor and may block forever.
pub fn call_libc_on<R, F: FnOnce() -> R>(call: &Call<'_>, fd: c_int, function: F) -> Verdict<R> {
    call_libc_pinning(call, FdPin::UntilStarted(fd), function)
}

fn call_libc_pinning<R, F: FnOnce() -> R>(call: &Call<'_>, pin: FdPin, function: F) -> Verdict<R> {
    if call.is_sole_fiber() {
        return Verdict::PassThrough(Reason::Alone);
    }
    Verdict::from_pool(run_on(call, pin, Lane::Peers, function))
}

/// Runs `function`, which may wait for a peer, on a pool thread. Returns None if no thread is
/// available. The fiber gets the function's errno.
pub fn run<R, F: FnOnce() -> R>(call: &Call<'_>, function: F) -> Option<R> {
    run_on(call, FdPin::None, Lane::Peers, function)
}

/// Like [`run`], on the threads of `lane`. The function may refer to files by descriptor.
pub fn run_on<R, F: FnOnce() -> R>(
    call: &Call<'_>,
    pin: FdPin,
    lane: Lane,
    function: F,
) -> Option<R> {
    if !call.has_engine() {
        return None;
    }
    let mut pool_call = PoolCall {
        function: Some(function),
        result: None,
        errno: errno::get(),
        h_errno: results::h_errno(call.thread, call.fiber),
        // SAFETY: a null argument only queries the current locale.
        locale: unsafe { libc::uselocale(std::ptr::null_mut()) },
    };
    let pool_call = &raw mut pool_call;
    // Whether the function ran is seen from its result.
    let _ = call.perform(&Request::Run(Run {
        code: pool_side::<R, F>,
        data: pool_call.cast(),
        pin,
        lane,
    }));
    // SAFETY: `pool_call` is on this stack, and the pool thread no longer uses it or never started.
    let pool_call = unsafe { &mut *pool_call };
    if pool_call.result.is_some() {
        errno::set(pool_call.errno);
        results::set_h_errno(call.thread, call.fiber, pool_call.h_errno);
    }
    pool_call.result.take()
}

/// The pool thread's part.
///
/// # Safety
/// `data` is a `PoolCall<R, F>` that no one else accesses during the call.
unsafe fn pool_side<R, F: FnOnce() -> R>(data: *mut c_void) {
    // SAFETY: the caller guarantees `data`.
    let pool_call = unsafe { &mut *data.cast::<PoolCall<R, F>>() };
    if let Some(function) = pool_call.function.take() {
        // SAFETY: glibc's accessors, valid on every thread; the locale is in use by the fiber's
        // thread during its call, and so stays valid.
        let before = unsafe {
            *hooks::__h_errno_location::real() = pool_call.h_errno;
            libc::uselocale(pool_call.locale)
        };
        errno::set(pool_call.errno);
        pool_call.result = Some(function());
        pool_call.errno = errno::get();
        // SAFETY: glibc's accessors, valid on every thread; `before` was this thread's own locale.
        unsafe {
            pool_call.h_errno = *hooks::__h_errno_location::real();
            libc::uselocale(before);
        }
    }
}
