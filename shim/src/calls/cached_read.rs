//! Reads of data that is surely in the page cache, because the thread's last ten thousand attempts
//! to read all found theirs there: the plain call, timed ([`crate::runtime::cached_reads`]). Its
//! result is final, however short.

use super::Verdict;
use crate::engine::{Direction, Transfer};
use crate::record::trace::AttemptOutcome;
use crate::runtime::call::Call;
use crate::runtime::thread::Thread;
use crate::state::descriptors::Descriptor;
use policy::Decision;
use std::ffi::{c_int, c_void};
use sys::errno::{self, Errno};
use sys::stopwatch::Stopwatch;

/// pread(2), before the call begins. None if the policy decides otherwise, or if the call needs
/// more than its plain call: it then takes the usual way.
#[inline(always)]
pub fn pread(
    thread: &Thread,
    fd: c_int,
    data: *mut c_void,
    n: usize,
    offset: i64,
) -> Option<isize> {
    let streak = thread.cached_reads().streak();
    if !streak.is_long() || offset < 0 || thread.slot().defers() {
        return None;
    }
    let descriptor = Descriptor::known(fd)?;
    if thread.host().running().is_null()
        || policy::read(descriptor.hint(), thread.load(), n, false, streak) != Decision::Inline
        || !thread.quantum().try_consume_within()
    {
        return None;
    }
    // SAFETY: the memory belongs to the C caller, whose call has not returned.
    let call = || unsafe { sys::read(fd, data, n, Some(offset)) };
    let (result, _) = timed(thread, descriptor, call);
    Some(result.map_or_else(failed, |n| n as isize))
}

/// `__pread_chk`: libc's own call ends the program if the object is too small.
#[inline(always)]
pub fn pread_chk(
    thread: &Thread,
    fd: c_int,
    data: *mut c_void,
    n: usize,
    offset: i64,
    object: usize,
) -> Option<isize> {
    if n > object {
        return None;
    }
    pread(thread, fd, data, n, offset)
}

#[cold]
fn failed(error: Errno) -> isize {
    errno::set(error.0);
    -1
}

/// Carries a read out as the policy decided.
#[inline(never)]
pub fn carry_out(call: &Call<'_>, transfer: &Transfer, descriptor: Descriptor) -> Verdict {
    let (result, outcome) = timed(call.thread, descriptor, || transfer.call(0));
    call.note(|record| record.set_outcome(outcome));
    call.inline();
    Verdict::from_result(result.map(|n| n as isize))
}

/// Makes the plain call. If it waited, the next reads are attempted first.
#[inline(always)]
fn timed(
    thread: &Thread,
    descriptor: Descriptor,
    call: impl FnOnce() -> Result<usize, Errno>,
) -> (Result<usize, Errno>, AttemptOutcome) {
    let watch = Stopwatch::start();
    let result = call();
    if thread.cached_reads().end(watch) {
        descriptor.missed(Direction::Read, thread.load().batch);
        (result, AttemptOutcome::Miss)
    } else {
        (result, AttemptOutcome::Hit)
    }
}
