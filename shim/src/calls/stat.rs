//! stat(2), mknod(2) and their kin, for a libc that does not export functions of these names.
//!
//! Before glibc 2.33 a program has its own copy of each, which calls `__xstat` or `__xmknod`. The
//! shim exports the names all the same, so that who looks them up with dlsym(3) finds them: they
//! make the system call, whose `struct stat` is libc's.

use std::ffi::{c_char, c_int, c_void};

use crate::errno::{self, Errno};
use crate::sys;
use libc::{dev_t, mode_t};
use syscalls::Sysno;

/// The kernel's answer as C has it.
fn of_c(result: Result<usize, Errno>) -> c_int {
    match result {
        Ok(_) => 0,
        Err(error) => {
            errno::set(error.0);
            -1
        }
    }
}

/// # Safety
/// As fstatat(2).
pub unsafe extern "C" fn own_fstatat(
    dir: c_int,
    path: *const c_char,
    into: *mut c_void,
    flags: c_int,
) -> c_int {
    let arguments = [
        dir as usize,
        path as usize,
        into as usize,
        flags as usize,
        0,
        0,
    ];
    // SAFETY: passed on to our caller.
    of_c(unsafe { sys::call(Sysno::newfstatat, arguments) })
}

/// # Safety
/// As stat(2).
pub unsafe extern "C" fn own_stat(path: *const c_char, into: *mut c_void) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { own_fstatat(libc::AT_FDCWD, path, into, 0) }
}

/// # Safety
/// As lstat(2).
pub unsafe extern "C" fn own_lstat(path: *const c_char, into: *mut c_void) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { own_fstatat(libc::AT_FDCWD, path, into, libc::AT_SYMLINK_NOFOLLOW) }
}

/// # Safety
/// As fstat(2).
pub unsafe extern "C" fn own_fstat(fd: c_int, into: *mut c_void) -> c_int {
    // SAFETY: passed on to our caller.
    of_c(unsafe { sys::call(Sysno::fstat, [fd as usize, into as usize, 0, 0, 0, 0]) })
}

/// # Safety
/// As mknodat(2).
pub unsafe extern "C" fn own_mknodat(
    dir: c_int,
    path: *const c_char,
    mode: mode_t,
    device: dev_t,
) -> c_int {
    // The kernel takes 32 bits, and would leave the others out.
    let Ok(device) = u32::try_from(device) else {
        return of_c(Err(Errno(libc::EINVAL)));
    };
    let arguments = [
        dir as usize,
        path as usize,
        mode as usize,
        device as usize,
        0,
        0,
    ];
    // SAFETY: passed on to our caller.
    of_c(unsafe { sys::call(Sysno::mknodat, arguments) })
}

/// # Safety
/// As mknod(2).
pub unsafe extern "C" fn own_mknod(path: *const c_char, mode: mode_t, device: dev_t) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { own_mknodat(libc::AT_FDCWD, path, mode, device) }
}
