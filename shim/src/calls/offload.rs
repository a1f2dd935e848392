//! Calls that no engine knows: libc's whole function, on a thread of the pool, with its fiber
//! parked meanwhile.
//!
//! What libc keeps for each thread is carried there and back: errno, h_errno, the locale. A
//! function that calls back into the program must not go this way ([`super::converse`] is for
//! those), nor one whose result lies in the thread's own memory.

use super::results;
use crate::call::Call;
use crate::engine::{Lane, Names, Request, Run};
use crate::errno;
use crate::hooks;
use crate::policy::Why;
use std::ffi::{c_int, c_void};

/// A call on its way to the pool and back, on its fiber's stack.
struct Trip<R, F> {
    function: Option<F>,
    result: Option<R>,
    errno: c_int,
    h_errno: c_int,
    locale: libc::locale_t,
}

/// What `function`, libc's own, returns; None if libc is to be called as ever.
pub fn whole<R, F: FnOnce() -> R>(call: &Call<'_>, function: F) -> Option<R> {
    whole_naming(call, Names::Nothing, function)
}

/// The same for a function about a descriptor, which may wait for ever.
pub fn whole_on<R, F: FnOnce() -> R>(call: &Call<'_>, fd: c_int, function: F) -> Option<R> {
    whole_naming(call, Names::UntilBegun(fd), function)
}

fn whole_naming<R, F: FnOnce() -> R>(call: &Call<'_>, names: Names, function: F) -> Option<R> {
    if call.is_sole_fiber() {
        call.through(Why::Alone);
        return None;
    }
    let result = run_on(call, names, Lane::Peers, function);
    if result.is_none() {
        call.through(Why::NoEngine);
    }
    result
}

/// The call of a function that another preloaded library interposes ([`hooks`]): None if it is to
/// be made here, by the fiber's thread.
pub fn next<R, F: FnOnce() -> R>(call: &Call<'_>, by: hooks::Next, function: F) -> Option<R> {
    if by == hooks::Next::Through {
        call.through(Why::Interposed);
        return None;
    }
    whole(call, function)
}

/// Runs `function`, which may wait for a peer, on a thread of the pool; None where there is none.
/// Its errno is the fiber's afterwards.
pub fn run<R, F: FnOnce() -> R>(call: &Call<'_>, function: F) -> Option<R> {
    run_on(call, Names::Nothing, Lane::Peers, function)
}

/// [`run`] for a function that names a file by a number, on the threads of `lane`.
pub fn run_on<R, F: FnOnce() -> R>(
    call: &Call<'_>,
    names: Names,
    lane: Lane,
    function: F,
) -> Option<R> {
    if !call.has_engine() {
        return None;
    }
    let mut trip = Trip {
        function: Some(function),
        result: None,
        errno: errno::get(),
        h_errno: results::h_errno(call.thread, call.fiber),
        // SAFETY: a null locale asks for the one in use.
        locale: unsafe { libc::uselocale(std::ptr::null_mut()) },
    };
    let trip = &raw mut trip;
    call.perform(&Request::Run(Run {
        code: travel::<R, F>,
        data: trip.cast(),
        names,
        lane,
    }));
    // SAFETY: on this stack, and the pool's thread is done with it, or never had it.
    let trip = unsafe { &mut *trip };
    if trip.result.is_some() {
        errno::set(trip.errno);
        results::set_h_errno(call.thread, call.fiber, trip.h_errno);
    }
    trip.result.take()
}

/// On the pool's thread.
///
/// # Safety
/// `data` is a `Trip<R, F>` that nobody else touches meanwhile.
unsafe fn travel<R, F: FnOnce() -> R>(data: *mut c_void) {
    // SAFETY: the caller's promise.
    let trip = unsafe { &mut *data.cast::<Trip<R, F>>() };
    if let Some(function) = trip.function.take() {
        // SAFETY: glibc's accessors, valid on every thread; the fiber's thread uses that locale
        // while its call lasts.
        let before = unsafe {
            *hooks::__h_errno_location::real() = trip.h_errno;
            libc::uselocale(trip.locale)
        };
        errno::set(trip.errno);
        trip.result = Some(function());
        trip.errno = errno::get();
        // SAFETY: glibc's accessors, valid on every thread; `before` was this one's own locale.
        unsafe {
            trip.h_errno = *hooks::__h_errno_location::real();
            libc::uselocale(before);
        }
    }
}
