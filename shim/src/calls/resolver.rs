//! res_query(3) and its kin, which use the calling thread's resolver state.
//!
//! The thread of the pool that makes a query is given a copy of the state, as the program has set
//! it up: a query keeps its sockets there, and those of many fibers would close each other's.

use super::locks::plainly;
use super::{Outcome, offload, results};
use crate::call::Call;
use crate::hooks;
use crate::policy::Why;
use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use std::ptr::null_mut;

/// `struct __res_state` of <resolv.h>, as far as it is looked at here.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    retrans: c_int,
    retry: c_int,
    options: c_ulong,
    servers: [u8; 56],
    /// What to search, most of it in `domain`.
    search: [*mut c_char; 7],
    domain: [c_char; 256],
    sorting: [u8; 116],
    /// Connected to a server, or -1.
    stream: c_int,
    flags: c_uint,
    unused: c_uint,
    server_count: u16,
    server_map: [u16; 3],
    /// A socket for each server, or -1.
    sockets: [c_int; 3],
    server_count6: u16,
    inits: u16,
    /// Addresses of servers, allocated.
    addresses: [*mut libc::sockaddr_in6; 3],
    /// What resolv.conf said, as libc keeps it for all states.
    configuration: u64,
}

const _: () = assert!(size_of::<State>() == 568 && std::mem::offset_of!(State, sockets) == 520);

/// In [`State::options`]: it is set up.
const RES_INIT: c_ulong = 1;

unsafe extern "C" {
    /// The calling thread's `_res`.
    fn __res_state() -> *mut State;
    fn __res_init() -> c_int;
    fn __res_nclose(state: *mut State);
}

impl State {
    /// A copy that shares nothing with the original but what it was told, for one query.
    fn copy(&self) -> Box<Self> {
        let mut copy = Box::new(*self);
        let (from, to) = (self.domain.as_ptr(), copy.domain.as_mut_ptr());
        for name in &mut copy.search {
            let offset = name.addr().wrapping_sub(from.addr());
            if offset < self.domain.len() {
                *name = to.wrapping_add(offset);
            }
        }
        copy.stream = -1;
        copy.flags = 0;
        copy.sockets = [-1; 3];
        // libc counts who uses what it has read: the copy does not.
        copy.configuration = 0;
        copy.addresses = self.addresses.map(|address| {
            // SAFETY: null, or an address that libc has allocated for this state.
            unsafe { address.as_ref() }.map_or(null_mut(), |address| {
                let size = size_of::<libc::sockaddr_in6>();
                // SAFETY: libc frees it as its own, by free(3); it is written only if there was
                // memory.
                unsafe {
                    let own = libc::malloc(size).cast::<libc::sockaddr_in6>();
                    if !own.is_null() {
                        own.write(*address);
                    }
                    own
                }
            })
        });
        copy
    }
}

/// A copy on its way to the pool.
struct OwnState(Box<State>);

impl Drop for OwnState {
    fn drop(&mut self) {
        // SAFETY: a state that nobody else has; libc closes its sockets and frees its addresses.
        unsafe { __res_nclose(&raw mut *self.0) };
    }
}

/// Runs `query` on a thread of the pool, with a copy of the state of the thread that the fiber is
/// on.
fn with_state(call: &Call<'_>, query: impl Fn(*mut c_void) -> c_int) -> Outcome {
    // SAFETY: always valid, and the calling thread's.
    let state = unsafe { &mut *__res_state() };
    if state.options & RES_INIT == 0 {
        // Reads resolv.conf; past the hooks, for libc holds a lock meanwhile.
        // SAFETY: it has no arguments.
        plainly(|| unsafe { __res_init() });
    }
    if !call.is_sole_fiber() {
        let own = OwnState(plainly(|| state.copy()));
        let result = offload::run(call, move || {
            let mut own = own;
            query((&raw mut *own.0).cast())
        });
        return match result {
            Some(result) => Outcome::Done(Ok(result as isize)),
            None => Outcome::Through(Why::NoEngine),
        };
    }
    call.through(Why::Alone);
    let result = query((&raw mut *state).cast());
    results::keep_h_errno(call.thread, call.fiber);
    Outcome::Done(Ok(result as isize))
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
        hooks::__res_nquery::real(state, name, class, kind, answer, n)
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
        hooks::__res_nsearch::real(state, name, class, kind, answer, n)
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
        unsafe { hooks::__res_nquerydomain::real(state, name, domain, class, kind, answer, n) }
    })
}

pub fn res_send(
    call: &Call<'_>,
    message: *const c_void,
    message_n: c_int,
    answer: *mut c_void,
    n: c_int,
) -> Outcome {
    // SAFETY: libc's own, with its caller's arguments, while that call lasts.
    with_state(call, |state| unsafe {
        hooks::__res_nsend::real(state, message, message_n, answer, n)
    })
}
