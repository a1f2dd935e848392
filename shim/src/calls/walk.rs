//! ftw(3), nftw(3), glob(3) and fts(3): directory walks that call back into the program.
//!
//! A walk of unknown length never runs inline; it runs on a pool thread that calls back
//! ([`crate::runtime::callback`]). A single step of a walk (fts_read), or a walk over few
//! directories (glob), runs inline as long as directory operations are quick.

use super::directory::Compare;
use super::{CResult, Verdict};
use crate::calls::via::adaptive;
use crate::runtime::blocking;
use crate::runtime::call::Call;
use crate::runtime::callback;
use crate::state::latency::LatencySlot;
use policy::{CallKind, Decision, Reason};
use std::ffi::{c_char, c_int, c_void};

pub type FtwVisit = Option<unsafe extern "C" fn(*const c_char, *const c_void, c_int) -> c_int>;
pub type NftwVisit =
    Option<unsafe extern "C" fn(*const c_char, *const c_void, c_int, *mut c_void) -> c_int>;
pub type GlobError = Option<unsafe extern "C" fn(*const c_char, c_int) -> c_int>;

/// The program supplies its own functions to open and read directories.
const GLOB_ALTDIRFUNC: c_int = 1 << 6;

/// The return value of a call-back whose fiber left it by a jump; it ends the walk.
const STOP: c_int = 1;

/// The head of glibc's FTS, which its public header defines.
#[repr(C)]
pub struct Fts {
    current: *mut c_void,
    child: *mut c_void,
    array: *mut *mut c_void,
    device: libc::dev_t,
    path: *mut c_char,
    root: c_int,
    path_len: c_int,
    entries: c_int,
    compare: Compare,
}

pub fn ftw(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char, FtwVisit, c_int) -> c_int,
    path: *const c_char,
    visit: FtwVisit,
    descriptors: c_int,
) -> Verdict<c_int> {
    unsafe extern "C" fn visitor(path: *const c_char, about: *const c_void, kind: c_int) -> c_int {
        callback::call_back(STOP, |visit| {
            // SAFETY: `visit` is the function that `ftw` was given below; libc supplies the
            // arguments.
            unsafe {
                std::mem::transmute::<*const c_void, FtwVisit>(visit)
                    .map_or(-1, |visit| visit(path, about, kind))
            }
        })
    }
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    callback::run_with_callbacks(
        call,
        address(visit.map(|visit| visit as *const c_void)),
        || unsafe { real(path, Some(visitor), descriptors) },
    )
}

pub fn nftw(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char, NftwVisit, c_int, c_int) -> c_int,
    path: *const c_char,
    visit: NftwVisit,
    descriptors: c_int,
    flags: c_int,
) -> Verdict<c_int> {
    unsafe extern "C" fn visitor(
        path: *const c_char,
        about: *const c_void,
        kind: c_int,
        place: *mut c_void,
    ) -> c_int {
        callback::call_back(STOP, |visit| {
            // SAFETY: `visit` is the function that `nftw` was given below; libc supplies the
            // arguments.
            unsafe {
                std::mem::transmute::<*const c_void, NftwVisit>(visit)
                    .map_or(-1, |visit| visit(path, about, kind, place))
            }
        })
    }
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    callback::run_with_callbacks(
        call,
        address(visit.map(|visit| visit as *const c_void)),
        || unsafe { real(path, Some(visitor), descriptors, flags) },
    )
}

pub fn glob(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char, c_int, GlobError, *mut c_void) -> c_int,
    pattern: *const c_char,
    flags: c_int,
    error: GlobError,
    into: *mut c_void,
) -> Verdict<c_int> {
    unsafe extern "C" fn visitor(path: *const c_char, number: c_int) -> c_int {
        callback::call_back(STOP, |error| {
            // SAFETY: `error` is the function that `glob` was given below; libc supplies the
            // arguments.
            unsafe {
                std::mem::transmute::<*const c_void, GlobError>(error)
                    .map_or(0, |error| error(path, number))
            }
        })
    }
    if flags & GLOB_ALTDIRFUNC != 0 {
        return Verdict::PassThrough(Reason::Unusual);
    }
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let plain = || unsafe { real(pattern, flags, error, into) };
    let Some(callback) = error else {
        return adaptive::call_libc(call, CallKind::Directory, libc::AT_FDCWD, plain);
    };
    with_callbacks(call, callback as *const c_void, plain, || {
        // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
        unsafe { real(pattern, flags, Some(visitor), into) }
    })
}

pub fn fts_open(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const *mut c_char, c_int, Compare) -> *mut Fts,
    paths: *const *mut c_char,
    options: c_int,
    compare: Compare,
) -> Verdict<*mut Fts> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let plain = || unsafe { real(paths, options, compare) };
    let Some(callback) = compare else {
        return adaptive::call_libc(call, CallKind::Directory, libc::AT_FDCWD, plain);
    };
    with_callbacks(call, callback as *const c_void, plain, || {
        // SAFETY: libc's own function, with its caller's arguments; the new tree has no other user
        // yet.
        unsafe {
            let tree = real(paths, options, Some(call_compare));
            if let Some(tree) = tree.as_mut() {
                tree.compare = compare;
            }
            tree
        }
    })
}

pub fn fts_read(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut Fts) -> *mut c_void,
    tree: *mut Fts,
) -> Verdict<*mut c_void> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    step(call, tree, || unsafe { real(tree) })
}

pub fn fts_children(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut Fts, c_int) -> *mut c_void,
    tree: *mut Fts,
    options: c_int,
) -> Verdict<*mut c_void> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    step(call, tree, || unsafe { real(tree, options) })
}

/// One step of a walk, in which libc sorts the entries it has read with the program's function.
fn step(
    call: &Call<'_>,
    tree: *mut Fts,
    function: impl Fn() -> *mut c_void,
) -> Verdict<*mut c_void> {
    // SAFETY: the C caller passes what fts_open returned, and uses it in one call at a time; libc
    // handles null.
    let compare = unsafe { tree.as_ref() }.and_then(|tree| tree.compare);
    let Some(callback) = compare else {
        return adaptive::call_libc(call, CallKind::Directory, libc::AT_FDCWD, function);
    };
    with_callbacks(call, callback as *const c_void, &function, || {
        // SAFETY: what fts_open returned; only this call uses it.
        unsafe { (*tree).compare = Some(call_compare) };
        let entry = function();
        // SAFETY: still open, because only fts_close ends it.
        unsafe { (*tree).compare = compare };
        entry
    })
}

unsafe extern "C" fn call_compare(a: *const c_void, b: *const c_void) -> c_int {
    callback::call_back(0, |compare| {
        // SAFETY: `compare` is the tree's own order function; libc supplies the arguments.
        unsafe {
            std::mem::transmute::<*const c_void, Compare>(compare)
                .map_or(0, |compare| compare(a, b))
        }
    })
}

/// Runs `plain`, which calls back directly, inline while such calls are quick. Otherwise runs
/// `calling_back` on a pool thread that calls back.
fn with_callbacks<R: CResult>(
    call: &Call<'_>,
    callback: *const c_void,
    plain: impl Fn() -> R,
    calling_back: impl Fn() -> R,
) -> Verdict<R> {
    let latency = LatencySlot::of(CallKind::Directory, libc::AT_FDCWD);
    match policy::adaptive(CallKind::Directory, latency.slow_rate(), call.load()) {
        Decision::PassThrough(reason) => Verdict::PassThrough(reason),
        Decision::Submit => callback::run_with_callbacks(call, callback, || {
            let (result, is_slow) = blocking::watch(&calling_back, |_| policy::SLOW_NS);
            latency.record(is_slow);
            result
        }),
        _ => {
            call.inline();
            let timing = call.thread.suspicion().start();
            let result = plain();
            latency.record(timing.was_slow(policy::SLOW_NS));
            Verdict::Done(result)
        }
    }
}

fn address(function: Option<*const c_void>) -> *const c_void {
    function.unwrap_or(std::ptr::null())
}
