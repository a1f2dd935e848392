//! chdir(2), mkstemp(3) and open_by_handle_at(2): calls on paths that do more than look one up.

use crate::calls::Verdict;
use crate::calls::via::adaptive;
use crate::engine::pool;
use crate::runtime::call::Call;
use crate::runtime::release;
use crate::state::descriptors;
use policy::CallKind;
use std::ffi::{c_char, c_int, c_void};

/// chdir(2). Paths that a pool thread is about to look up are looked up first, so that they are
/// resolved in the directory in which their callers passed them.
pub fn chdir(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char) -> c_int,
    path: *const c_char,
) -> Verdict<c_int> {
    settle_names(call);
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    adaptive::call_libc(call, CallKind::Lookup, libc::AT_FDCWD, || unsafe {
        real(path)
    })
}

pub fn fchdir(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int) -> c_int,
    dir: c_int,
) -> Verdict<c_int> {
    settle_names(call);
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    adaptive::call_libc(call, CallKind::Lookup, dir, || unsafe { real(dir) })
}

fn settle_names(call: &Call<'_>) {
    call.thread.submit_queued();
    pool::await_jobs(libc::AT_FDCWD);
}

pub fn open_by_handle_at(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, *mut c_void, c_int) -> c_int,
    mount: c_int,
    handle: *mut c_void,
    flags: c_int,
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    opened(adaptive::call_libc(
        call,
        CallKind::Lookup,
        mount,
        || unsafe { real(mount, handle, flags) },
    ))
}

pub fn mkstemp(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut c_char) -> c_int,
    template: *mut c_char,
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    opened(adaptive::call_libc(
        call,
        CallKind::Change,
        libc::AT_FDCWD,
        || unsafe { real(template) },
    ))
}

/// mkstemps(3), and mkostemp(3), whose flags are in the same argument position.
pub fn mkstemps(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut c_char, c_int) -> c_int,
    template: *mut c_char,
    suffix_or_flags: c_int,
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    opened(adaptive::call_libc(
        call,
        CallKind::Change,
        libc::AT_FDCWD,
        || unsafe { real(template, suffix_or_flags) },
    ))
}

pub fn mkostemps(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int,
    template: *mut c_char,
    suffix: c_int,
    flags: c_int,
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    opened(adaptive::call_libc(
        call,
        CallKind::Change,
        libc::AT_FDCWD,
        || unsafe { real(template, suffix, flags) },
    ))
}

/// Clears the cached facts about the number of a descriptor that libc has opened.
fn opened(verdict: Verdict<c_int>) -> Verdict<c_int> {
    if let Verdict::Done(fd @ 0..) = verdict {
        descriptors::forget(fd).map(release::release);
    }
    verdict
}
