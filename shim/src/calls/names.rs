//! mkfifo(2), mknod(2), rename(2), link(2), symlink(2): what may put a FIFO under a name that was a file's.
//!
//! They go to libc as they are; each of their rows makes [`crate::names`] trust no name any more, wherever it is called.

use super::Outcome;
use crate::call::Call;
use crate::policy::Why;
use crate::{errno, names, sys};
use std::ffi::{c_char, c_int, c_uint};

pub fn mkfifo(_call: &Call<'_>, _path: *const c_char, _mode: libc::mode_t) -> Outcome {
    Outcome::Through(Why::Quick)
}

pub fn mkfifoat(_call: &Call<'_>, _dir: c_int, _path: *const c_char, _mode: libc::mode_t) -> Outcome {
    Outcome::Through(Why::Quick)
}

pub fn rename(_call: &Call<'_>, _from: *const c_char, _to: *const c_char) -> Outcome {
    Outcome::Through(Why::Quick)
}

pub fn renameat(
    _call: &Call<'_>,
    _from_dir: c_int,
    _from: *const c_char,
    _to_dir: c_int,
    _to: *const c_char,
) -> Outcome {
    Outcome::Through(Why::Quick)
}

pub fn renameat2(
    _call: &Call<'_>,
    _from_dir: c_int,
    _from: *const c_char,
    _to_dir: c_int,
    _to: *const c_char,
    _flags: c_uint,
) -> Outcome {
    Outcome::Through(Why::Quick)
}

pub fn linkat(
    _call: &Call<'_>,
    _from_dir: c_int,
    _from: *const c_char,
    _to_dir: c_int,
    _to: *const c_char,
    _flags: c_int,
) -> Outcome {
    Outcome::Through(Why::Quick)
}

pub fn symlinkat(_call: &Call<'_>, _target: *const c_char, _dir: c_int, _path: *const c_char) -> Outcome {
    Outcome::Through(Why::Quick)
}

/// mknod(2), which libc has from 2.33 on: not a row of the table, for there may be nothing behind it.
///
/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mknod(path: *const c_char, mode: libc::mode_t, device: libc::dev_t) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { mknodat(libc::AT_FDCWD, path, mode, device) }
}

/// mknodat(2), likewise.
///
/// # Safety
/// As the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mknodat(dir: c_int, path: *const c_char, mode: libc::mode_t, device: libc::dev_t) -> c_int {
    names::forget();
    // SAFETY: passed on to our caller.
    match unsafe { sys::mknodat(dir, path, mode, device) } {
        Ok(()) => 0,
        Err(error) => {
            errno::set(error.0);
            -1
        }
    }
}
