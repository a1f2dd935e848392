//! res_query(3) and its variants, which use the calling thread's resolver state, and res_init(3),
//! which makes it. All attached threads use one state (`runtime/resolver_state.rs`).
//!
//! The pool thread that makes a query gets a copy of the state, with the program's settings. A
//! query keeps its sockets in the state, and the queries of several fibers would close each other's
//! sockets.

use super::{Verdict, results};
use crate::calls::via::offload;
use crate::context::{self, Mutex};
use crate::hooks;
use crate::runtime::call::Call;
use crate::runtime::resolver_state::{RES_INIT, Settings};
use policy::Reason;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;

/// `struct __res_state` of <resolv.h>. Parts that are not used here are opaque.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    settings: Settings,
    servers: [u8; 56],
    /// The domains to search; most of them point into `domain`.
    search: [*mut c_char; 7],
    domain: [c_char; 256],
    sorting: [u8; 116],
    /// A stream socket connected to a server, or -1.
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
    /// The parsed resolv.conf, which libc shares between all states.
    configuration: u64,
}

const _: () = assert!(size_of::<State>() == 568 && std::mem::offset_of!(State, sockets) == 520);

unsafe extern "C" {
    /// The calling thread's `_res`.
    fn __res_state() -> *mut State;
    fn __res_nclose(state: *mut State);
}

impl State {
    /// Makes a copy for one query. The copy has the same settings but shares no memory with the
    /// original.
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
        // libc counts the users of the configuration it has read; the copy is not one of them.
        copy.configuration = 0;
        copy.addresses = self.addresses.map(|address| {
            // SAFETY: null, or an address that libc has allocated for this state.
            unsafe { address.as_ref() }.map_or(null_mut(), |address| {
                let size = size_of::<libc::sockaddr_in6>();
                // SAFETY: allocated with malloc, because libc frees it with free(3); only written
                // if the allocation succeeded.
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

/// A copy of the state on its way to the pool.
struct OwnState(Box<State>);

impl Drop for OwnState {
    fn drop(&mut self) {
        // SAFETY: no one else uses this state; libc closes its sockets and frees its addresses.
        unsafe { __res_nclose(&raw mut *self.0) };
    }
}

fork_reset! {
    /// Held while the state is made or copied.
    static MAKING: Mutex<()> = Mutex::new(());
}

/// Makes the calling thread's state from resolv.conf. The hooks pass through, because libc holds a
/// lock during the call.
fn make() -> c_int {
    // SAFETY: libc's own function, without arguments.
    context::in_libc(|| unsafe { hooks::__res_init::real() })
}

pub fn res_init(_: &Call<'_>) -> Verdict {
    let _making = MAKING.get().lock();
    Verdict::Done(make() as isize)
}

/// Runs `query` on a pool thread with a copy of the resolver state of the fiber's thread.
fn with_state(call: &Call<'_>, query: impl Fn(*mut c_void) -> c_int) -> Verdict {
    let making = MAKING.get().lock();
    // SAFETY: libc's accessor returns a valid pointer to the calling thread's state. Other attached
    // threads that use the same state take the lock.
    let state = unsafe { &mut *__res_state() };
    if state.settings.options & RES_INIT == 0 {
        make();
    }
    if !call.is_sole_fiber() {
        let own = OwnState(context::in_libc(|| state.copy()));
        drop(making);
        let result = offload::run(call, move || {
            let mut own = own;
            query((&raw mut *own.0).cast())
        });
        return Verdict::from_pool(result.map(|result| result as isize));
    }
    drop(making);
    call.count_pass_through(Reason::Alone);
    let result = query((&raw mut *state).cast());
    results::keep_h_errno(call.thread, call.fiber);
    Verdict::Done(result as isize)
}

pub fn res_query(
    call: &Call<'_>,
    name: *const c_char,
    class: c_int,
    kind: c_int,
    answer: *mut c_void,
    n: c_int,
) -> Verdict {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
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
) -> Verdict {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
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
) -> Verdict {
    with_state(call, |state| {
        // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
        unsafe { hooks::__res_nquerydomain::real(state, name, domain, class, kind, answer, n) }
    })
}

pub fn res_send(
    call: &Call<'_>,
    message: *const c_void,
    message_n: c_int,
    answer: *mut c_void,
    n: c_int,
) -> Verdict {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    with_state(call, |state| unsafe {
        hooks::__res_nsend::real(state, message, message_n, answer, n)
    })
}
