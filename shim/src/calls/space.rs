//! posix_fallocate(3), sync_file_range(2), msync(2): allocating a file's disk space and writing it
//! back.

use super::{CResult, Verdict};
use crate::calls::via::adaptive;
use crate::runtime::call::Call;
use policy::{CallKind, Reason};
use std::ffi::{c_int, c_uint, c_void};

/// The result of a function that returns its error number and does not change errno.
struct ErrorNumber(c_int);

impl CResult for ErrorNumber {
    fn from_done(result: isize) -> Self {
        Self(result as c_int)
    }

    fn is_failure(&self) -> bool {
        self.0 != 0
    }

    fn error(&self) -> c_int {
        self.0
    }
}

pub fn posix_fallocate(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, i64, i64) -> c_int,
    fd: c_int,
    offset: i64,
    length: i64,
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let done = adaptive::call_libc(call, CallKind::Space, fd, || unsafe {
        ErrorNumber(real(fd, offset, length))
    });
    done.map(|number| number.0)
}

pub fn sync_file_range(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, i64, i64, c_uint) -> c_int,
    fd: c_int,
    offset: i64,
    length: i64,
    flags: c_uint,
) -> Verdict<c_int> {
    let waits = flags & (libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER) != 0;
    let kind = if waits {
        CallKind::Flush
    } else {
        CallKind::Space
    };
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    adaptive::call_libc(call, kind, fd, || unsafe {
        real(fd, offset, length, flags)
    })
}

pub fn msync(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut c_void, usize, c_int) -> c_int,
    memory: *mut c_void,
    length: usize,
    flags: c_int,
) -> Verdict<c_int> {
    if flags & libc::MS_SYNC == 0 {
        // At most marks pages.
        return Verdict::PassThrough(Reason::Quick);
    }
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    adaptive::call_libc(call, CallKind::Flush, adaptive::NO_FILE, || unsafe {
        real(memory, length, flags)
    })
}
