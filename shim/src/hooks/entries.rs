//! The hooks as stdio's jump tables and the variadic functions enter them: not by libc's names, but
//! from inside the shim.

use super::{
    __vdprintf_chk, __vsyslog_chk, Row, close, lseek, read, syscall, vdprintf, vsyslog, write,
};
use crate::call::Call;
use crate::calls::Outcome;
use crate::{calls, tls};
use libc::{off_t, size_t, ssize_t};
use std::ffi::{c_char, c_int, c_long, c_void};

/// read(2), for stdio: its calls are made inside libc, and come here by its jump tables.
///
/// # Safety
/// As read(2).
pub unsafe fn call_read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t {
    // SAFETY: passed on to our caller.
    unsafe { read::hook(fd, buf, n) }
}

/// write(2), for stdio.
///
/// # Safety
/// As write(2).
pub unsafe fn call_write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t {
    // SAFETY: passed on to our caller.
    unsafe { write::hook(fd, buf, n) }
}

/// lseek(2), for stdio.
///
/// # Safety
/// As lseek(2).
pub unsafe fn call_lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t {
    // SAFETY: passed on to our caller.
    unsafe { lseek::hook(fd, offset, whence) }
}

/// Has the part of pclose that waits run by a thread of the pool; None where it is to be run here.
pub fn pclose_on_pool<R>(function: impl FnOnce() -> R) -> Option<R> {
    // SAFETY: a thread stays attached while one of its hooks runs.
    let thread = unsafe { tls::here().as_ref() }?;
    calls::offload::whole(&Call::begin(thread, Row::pclose as usize, None)?, function)
}

/// Whether a call's row is that of [`pclose_on_pool`].
pub fn is_pclose(row: u32) -> bool {
    row == Row::pclose as u32
}

/// vdprintf(3), for dprintf.
///
/// # Safety
/// As vdprintf(3).
pub unsafe extern "C" fn call_vdprintf(
    fd: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { vdprintf::hook(fd, format, arguments) }
}

/// `__vdprintf_chk`, for `__dprintf_chk`.
///
/// # Safety
/// As vdprintf(3).
pub unsafe extern "C" fn call_vdprintf_chk(
    fd: c_int,
    flag: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { __vdprintf_chk::hook(fd, flag, format, arguments) }
}

/// close(2), for stdio.
///
/// # Safety
/// As close(2).
pub unsafe fn call_close(fd: c_int) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { close::hook(fd) }
}

/// vsyslog(3), for syslog.
///
/// # Safety
/// As vsyslog(3).
pub unsafe extern "C" fn call_vsyslog(
    priority: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) {
    // SAFETY: passed on to our caller.
    unsafe { vsyslog::hook(priority, format, arguments) }
}

/// `__vsyslog_chk`, for `__syslog_chk`.
///
/// # Safety
/// As vsyslog(3).
pub unsafe extern "C" fn call_vsyslog_chk(
    priority: c_int,
    flag: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) {
    // SAFETY: passed on to our caller.
    unsafe { __vsyslog_chk::hook(priority, flag, format, arguments) }
}

/// futex(2) without a time limit, for the guards of static variables.
///
/// # Safety
/// As futex(2).
pub unsafe fn call_futex(address: c_long, operation: c_int, value: c_long) {
    // SAFETY: passed on to our caller.
    unsafe {
        syscall::hook(
            libc::SYS_futex,
            address,
            c_long::from(operation),
            value,
            0,
            0,
            0,
        )
    };
}

/// Parks the running fiber in a private futex at `address` while that is `value`, whether or not
/// locks are converted. False where no fiber runs, or none may park.
pub fn park_in_futex(address: c_long, value: u32) -> bool {
    // SAFETY: a thread stays attached while one of its hooks runs.
    let call = unsafe { tls::here().as_ref() }
        .and_then(|here| Call::begin_free(here, Row::syscall as usize, None));
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let arguments = [
        address,
        c_long::from(operation),
        c_long::from(value),
        0,
        0,
        0,
    ];
    call.is_some_and(|call| {
        !matches!(
            calls::locks::futex::futex(&call, arguments),
            Outcome::Through(_)
        )
    })
}
