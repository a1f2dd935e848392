//! stat(2), mknod(2) and their variants: replacements if libc does not export functions of these
//! names.
//!
//! Before glibc 2.33 a program has its own copy of each, which calls `__xstat` or `__xmknod`. The
//! shim exports the names nevertheless, so that programs that look them up with dlsym(3) find them.
//! These functions make the system call, whose `struct stat` is the same as libc's.

use std::ffi::{c_char, c_int, c_void};

use libc::{dev_t, mode_t};
use sys::errno::{self, Errno};
use syscalls::Sysno;

/// Converts the kernel's result to a C result and errno.
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
/// The requirements of fstatat(2) apply.
pub unsafe extern "C" fn fallback_fstatat(
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
    // SAFETY: our caller guarantees what fstatat(2) requires.
    of_c(unsafe { sys::call(Sysno::newfstatat, arguments) })
}

/// # Safety
/// The requirements of stat(2) apply.
pub unsafe extern "C" fn fallback_stat(path: *const c_char, into: *mut c_void) -> c_int {
    // SAFETY: our caller guarantees what stat(2) requires.
    unsafe { fallback_fstatat(libc::AT_FDCWD, path, into, 0) }
}

/// # Safety
/// The requirements of lstat(2) apply.
pub unsafe extern "C" fn fallback_lstat(path: *const c_char, into: *mut c_void) -> c_int {
    // SAFETY: our caller guarantees what lstat(2) requires.
    unsafe { fallback_fstatat(libc::AT_FDCWD, path, into, libc::AT_SYMLINK_NOFOLLOW) }
}

/// # Safety
/// The requirements of fstat(2) apply.
pub unsafe extern "C" fn fallback_fstat(fd: c_int, into: *mut c_void) -> c_int {
    // SAFETY: our caller guarantees what fstat(2) requires.
    of_c(unsafe { sys::call(Sysno::fstat, [fd as usize, into as usize, 0, 0, 0, 0]) })
}

/// # Safety
/// The requirements of mknodat(2) apply.
pub unsafe extern "C" fn fallback_mknodat(
    dir: c_int,
    path: *const c_char,
    mode: mode_t,
    device: dev_t,
) -> c_int {
    // The kernel takes 32 bits and would ignore the others.
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
    // SAFETY: our caller guarantees what mknodat(2) requires.
    of_c(unsafe { sys::call(Sysno::mknodat, arguments) })
}

/// # Safety
/// The requirements of mknod(2) apply.
pub unsafe extern "C" fn fallback_mknod(path: *const c_char, mode: mode_t, device: dev_t) -> c_int {
    // SAFETY: our caller guarantees what mknod(2) requires.
    unsafe { fallback_mknodat(libc::AT_FDCWD, path, mode, device) }
}
