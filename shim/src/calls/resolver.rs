//! res_query(3) and its kin, which use the calling thread's resolver state: the pool's thread is given the fiber's.

use super::{Outcome, offload};
use crate::call::Call;
use crate::hooks;
use crate::policy::{Alone, Why};
use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    /// The calling thread's `_res`.
    fn __res_state() -> *mut c_void;
}

/// Runs `query` on a thread of the pool, with the state of the thread that the fiber is on. Other fibers of it may use
/// the state meanwhile, as one after another they always do; a query leaves nothing in it that the next one needs.
fn with_state(call: &Call<'_>, query: impl FnOnce(*mut c_void) -> c_int) -> Outcome {
    if call.load().alone == Alone::Entirely {
        return Outcome::Through(Why::Alone);
    }
    // SAFETY: always valid, and it is set up by libc on its thread's first use, which is a matter of that function.
    let state = unsafe { __res_state() };
    match offload::run(call, || query(state)) {
        Some(result) => Outcome::Done(Ok(result as isize)),
        None => Outcome::Through(Why::NoEngine),
    }
}

pub fn res_query(
    call: &Call<'_>,
    name: *const c_char,
    class: c_int,
    kind: c_int,
    answer: *mut c_void,
    n: c_int,
) -> Outcome {
    // SAFETY: libc's own, with its caller's arguments, while that call lasts.
    with_state(call, |state| unsafe {
        hooks::res_nquery::real(state, name, class, kind, answer, n)
    })
}

pub fn res_search(
    call: &Call<'_>,
    name: *const c_char,
    class: c_int,
    kind: c_int,
    answer: *mut c_void,
    n: c_int,
) -> Outcome {
    // SAFETY: libc's own, with its caller's arguments, while that call lasts.
    with_state(call, |state| unsafe {
        hooks::res_nsearch::real(state, name, class, kind, answer, n)
    })
}

pub fn res_querydomain(
    call: &Call<'_>,
    name: *const c_char,
    domain: *const c_char,
    class: c_int,
    kind: c_int,
    answer: *mut c_void,
    n: c_int,
) -> Outcome {
    with_state(call, |state| {
        // SAFETY: libc's own, with its caller's arguments, while that call lasts.
        unsafe { hooks::res_nquerydomain::real(state, name, domain, class, kind, answer, n) }
    })
}

pub fn res_send(call: &Call<'_>, message: *const c_void, message_n: c_int, answer: *mut c_void, n: c_int) -> Outcome {
    // SAFETY: libc's own, with its caller's arguments, while that call lasts.
    with_state(call, |state| unsafe {
        hooks::res_nsend::real(state, message, message_n, answer, n)
    })
}
