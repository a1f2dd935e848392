//! The C11 locks of <threads.h>. libc implements them as the pthread locks under other names, with
//! other results.

use super::{cond, mutex};
use crate::calls::Verdict;
use crate::runtime::call::Call;
use libc::{pthread_cond_t, pthread_mutex_t, timespec};
use std::ffi::c_int;

pub const SUCCESS: isize = 0;
const BUSY: isize = 1;
pub const ERROR: isize = 2;
const NO_MEMORY: isize = 3;
const TIMED_OUT: isize = 4;

/// Converts an error number to a thrd_* result.
fn result(error: isize) -> isize {
    match error as c_int {
        0 => SUCCESS,
        libc::EBUSY => BUSY,
        libc::ENOMEM => NO_MEMORY,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

fn translated(outcome: Verdict) -> Verdict {
    match outcome {
        Verdict::Done(error) => Verdict::Done(result(error)),
        outcome => outcome,
    }
}

pub fn mtx_lock(call: &Call<'_>, m: *mut pthread_mutex_t) -> Verdict {
    translated(mutex::lock(call, m))
}

pub fn mtx_trylock(call: &Call<'_>, m: *mut pthread_mutex_t) -> Verdict {
    translated(mutex::trylock(call, m))
}

pub fn mtx_timedlock(call: &Call<'_>, m: *mut pthread_mutex_t, time: *const timespec) -> Verdict {
    translated(mutex::timedlock(call, m, time))
}

/// mtx_unlock(3), on a fiber and off.
#[inline(always)]
pub fn mtx_unlock(
    real: unsafe extern "C" fn(*mut pthread_mutex_t) -> c_int,
    m: *mut pthread_mutex_t,
) -> c_int {
    match mutex::unlock(real, m) {
        // Either libc's answer, which already is a thrd_* result, or our EPERM.
        libc::EPERM => ERROR as c_int,
        answer => answer,
    }
}

pub fn cnd_wait(call: &Call<'_>, c: *mut pthread_cond_t, m: *mut pthread_mutex_t) -> Verdict {
    translated(cond::wait(call, c, m))
}

pub fn cnd_timedwait(
    call: &Call<'_>,
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    time: *const timespec,
) -> Verdict {
    translated(cond::timedwait(call, c, m, time))
}
