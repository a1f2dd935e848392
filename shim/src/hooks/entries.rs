//! Entry points into hooks for callers inside the shim: stdio's jump tables and the variadic
//! functions, which do not go through libc's exported names.

use super::{
    __vdprintf_chk, __vsyslog_chk, Index, close, lseek, read, syscall, vdprintf, vsyslog, write,
};
use crate::calls::{self, Verdict};
use crate::runtime::call::Call;
use crate::runtime::thread::Thread;
use libc::{off_t, size_t, ssize_t};
use std::ffi::{c_char, c_int, c_long, c_void};

/// read(2) for stdio, whose calls are made inside libc and arrive through its jump tables.
///
/// # Safety
/// The requirements of read(2) apply.
pub unsafe fn call_read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t {
    // SAFETY: our caller guarantees what read(2) requires.
    unsafe { read::hook(fd, buf, n) }
}

/// write(2), for stdio.
///
/// # Safety
/// The requirements of write(2) apply.
pub unsafe fn call_write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t {
    // SAFETY: our caller guarantees what write(2) requires.
    unsafe { write::hook(fd, buf, n) }
}

/// lseek(2), for stdio.
///
/// # Safety
/// The requirements of lseek(2) apply.
pub unsafe fn call_lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t {
    // SAFETY: our caller guarantees what lseek(2) requires.
    unsafe { lseek::hook(fd, offset, whence) }
}

/// Runs the blocking part of pclose on a pool thread. Returns None if the caller must run it
/// inline.
pub fn pclose_on_pool<R: calls::CResult>(function: impl FnOnce() -> R) -> Option<R> {
    let call = Call::begin(Thread::current()?, Index::pclose as usize, None)?;
    calls::via::offload::call_libc(&call, function).settle(&call)
}

/// vdprintf(3), for dprintf.
///
/// # Safety
/// The requirements of vdprintf(3) apply.
pub unsafe extern "C" fn call_vdprintf(
    fd: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    // SAFETY: our caller guarantees what vdprintf(3) requires.
    unsafe { vdprintf::hook(fd, format, arguments) }
}

/// `__vdprintf_chk`, for `__dprintf_chk`.
///
/// # Safety
/// The requirements of vdprintf(3) apply.
pub unsafe extern "C" fn call_vdprintf_chk(
    fd: c_int,
    flag: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    // SAFETY: our caller guarantees what vdprintf(3) requires.
    unsafe { __vdprintf_chk::hook(fd, flag, format, arguments) }
}

/// close(2), for stdio.
///
/// # Safety
/// The requirements of close(2) apply.
pub unsafe fn call_close(fd: c_int) -> c_int {
    // SAFETY: our caller guarantees what close(2) requires.
    unsafe { close::hook(fd) }
}

/// vsyslog(3), for syslog.
///
/// # Safety
/// The requirements of vsyslog(3) apply.
pub unsafe extern "C" fn call_vsyslog(
    priority: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) {
    // SAFETY: our caller guarantees what vsyslog(3) requires.
    unsafe { vsyslog::hook(priority, format, arguments) }
}

/// `__vsyslog_chk`, for `__syslog_chk`.
///
/// # Safety
/// The requirements of vsyslog(3) apply.
pub unsafe extern "C" fn call_vsyslog_chk(
    priority: c_int,
    flag: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) {
    // SAFETY: our caller guarantees what vsyslog(3) requires.
    unsafe { __vsyslog_chk::hook(priority, flag, format, arguments) }
}

/// futex(2) without a timeout; used by the guards of static variables.
///
/// # Safety
/// The requirements of futex(2) apply.
pub unsafe fn call_futex(address: c_long, operation: c_int, value: c_long) {
    // SAFETY: our caller guarantees what futex(2) requires.
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

/// Parks the running fiber on a private futex at `address` while its value is `value`, even if
/// locks are not converted. Returns false if no fiber runs here or it may not park.
pub fn park_in_futex(address: c_long, value: u32) -> bool {
    let call = Thread::current()
        .and_then(|here| Call::begin_uncharged(here, Index::syscall as usize, None));
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
            Verdict::PassThrough(_)
        )
    })
}
