//! ftw(3), nftw(3), glob(3) and fts(3): walks through directories that call back into the program.
//!
//! A walk of unknown length is never made inline: it is a conversation ([`super::converse`]). What
//! is a step of one (fts_read) or looks at few directories (glob) is inline while it is quick, as
//! all directories are.

use super::directory::Compare;
use super::{CResult, converse, paced};
use crate::call::Call;
use crate::paces::Account;
use crate::policy::{self, Decision, Kind, Why};
use crate::stopwatch::Stopwatch;
use std::ffi::{c_char, c_int, c_void};

pub type FtwVisit = Option<unsafe extern "C" fn(*const c_char, *const c_void, c_int) -> c_int>;
pub type NftwVisit =
    Option<unsafe extern "C" fn(*const c_char, *const c_void, c_int, *mut c_void) -> c_int>;
pub type GlobError = Option<unsafe extern "C" fn(*const c_char, c_int) -> c_int>;

/// The program opens and reads the directories itself.
const GLOB_ALTDIRFUNC: c_int = 1 << 6;

/// What a call-back that has been left returns, so that the walk ends.
const STOP: c_int = 1;

/// The head of glibc's FTS, which its header makes public.
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
) -> Option<c_int> {
    unsafe extern "C" fn ask(path: *const c_char, about: *const c_void, kind: c_int) -> c_int {
        converse::ask(STOP, |visit| {
            // SAFETY: what `ftw` was given below, with what libc calls it with.
            unsafe {
                std::mem::transmute::<*const c_void, FtwVisit>(visit)
                    .map_or(-1, |visit| visit(path, about, kind))
            }
        })
    }
    // SAFETY: libc's own, with its caller's arguments, while that call lasts; so below.
    converse::whole(
        call,
        address(visit.map(|visit| visit as *const c_void)),
        || unsafe { real(path, Some(ask), descriptors) },
    )
}

pub fn nftw(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char, NftwVisit, c_int, c_int) -> c_int,
    path: *const c_char,
    visit: NftwVisit,
    descriptors: c_int,
    flags: c_int,
) -> Option<c_int> {
    unsafe extern "C" fn ask(
        path: *const c_char,
        about: *const c_void,
        kind: c_int,
        place: *mut c_void,
    ) -> c_int {
        converse::ask(STOP, |visit| {
            // SAFETY: what `nftw` was given below, with what libc calls it with.
            unsafe {
                std::mem::transmute::<*const c_void, NftwVisit>(visit)
                    .map_or(-1, |visit| visit(path, about, kind, place))
            }
        })
    }
    // SAFETY: as in `ftw`.
    converse::whole(
        call,
        address(visit.map(|visit| visit as *const c_void)),
        || unsafe { real(path, Some(ask), descriptors, flags) },
    )
}

pub fn glob(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char, c_int, GlobError, *mut c_void) -> c_int,
    pattern: *const c_char,
    flags: c_int,
    error: GlobError,
    into: *mut c_void,
) -> Option<c_int> {
    unsafe extern "C" fn ask(path: *const c_char, number: c_int) -> c_int {
        converse::ask(STOP, |error| {
            // SAFETY: what `glob` was given below, with what libc calls it with.
            unsafe {
                std::mem::transmute::<*const c_void, GlobError>(error)
                    .map_or(0, |error| error(path, number))
            }
        })
    }
    if flags & GLOB_ALTDIRFUNC != 0 {
        call.through(Why::Unusual);
        return None;
    }
    // SAFETY: as in `ftw`; so below.
    let plain = || unsafe { real(pattern, flags, error, into) };
    let Some(callback) = error else {
        return paced::whole(call, Kind::Directory, libc::AT_FDCWD, plain);
    };
    conversing(call, callback as *const c_void, plain, || {
        // SAFETY: libc's own, with its caller's arguments, while that call lasts.
        unsafe { real(pattern, flags, Some(ask), into) }
    })
}

pub fn fts_open(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const *mut c_char, c_int, Compare) -> *mut Fts,
    paths: *const *mut c_char,
    options: c_int,
    compare: Compare,
) -> Option<*mut Fts> {
    // SAFETY: as in `ftw`; so below.
    let plain = || unsafe { real(paths, options, compare) };
    let Some(callback) = compare else {
        return paced::whole(call, Kind::Directory, libc::AT_FDCWD, plain);
    };
    conversing(call, callback as *const c_void, plain, || {
        // SAFETY: libc's own, with its caller's arguments; what was opened is written to by nobody
        // else yet.
        unsafe {
            let tree = real(paths, options, Some(ask_order));
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
) -> Option<*mut c_void> {
    // SAFETY: as in `ftw`.
    step(call, tree, || unsafe { real(tree) })
}

pub fn fts_children(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut Fts, c_int) -> *mut c_void,
    tree: *mut Fts,
    options: c_int,
) -> Option<*mut c_void> {
    // SAFETY: as in `ftw`.
    step(call, tree, || unsafe { real(tree, options) })
}

/// A step of a walk, in which libc puts what it read in the program's order.
fn step(
    call: &Call<'_>,
    tree: *mut Fts,
    function: impl Fn() -> *mut c_void,
) -> Option<*mut c_void> {
    // SAFETY: what fts_open returned, says the C caller, which gives it to one call at a time; null
    // is libc's to follow.
    let compare = unsafe { tree.as_ref() }.and_then(|tree| tree.compare);
    let Some(callback) = compare else {
        return paced::whole(call, Kind::Directory, libc::AT_FDCWD, function);
    };
    conversing(call, callback as *const c_void, &function, || {
        // SAFETY: what fts_open returned, and in this one call.
        unsafe { (*tree).compare = Some(ask_order) };
        let entry = function();
        // SAFETY: still open: only fts_close ends it.
        unsafe { (*tree).compare = compare };
        entry
    })
}

unsafe extern "C" fn ask_order(a: *const c_void, b: *const c_void) -> c_int {
    converse::ask(0, |compare| {
        // SAFETY: the order that the tree has, with what libc calls it with.
        unsafe {
            std::mem::transmute::<*const c_void, Compare>(compare)
                .map_or(0, |compare| compare(a, b))
        }
    })
}

/// `plain`, which calls back directly, inline while such calls are quick; else `asking`, in a
/// conversation.
fn conversing<R: CResult>(
    call: &Call<'_>,
    callback: *const c_void,
    plain: impl Fn() -> R,
    asking: impl Fn() -> R,
) -> Option<R> {
    let account = Account::of(Kind::Directory, libc::AT_FDCWD);
    let timed = |function: &dyn Fn() -> R| {
        let watch = Stopwatch::start();
        let result = function();
        account.took(watch.roughly());
        result
    };
    match policy::paced(Kind::Directory, account.pace(), call.load()) {
        Decision::Through(why) => {
            call.through(why);
            None
        }
        Decision::Submit => converse::whole(call, callback, || timed(&asking)),
        _ => {
            call.inline();
            Some(timed(&plain))
        }
    }
}

fn address(function: Option<*const c_void>) -> *const c_void {
    function.unwrap_or(std::ptr::null())
}
