//! flock(2), lockf(3), and fcntl(2) that waits for a lock.
//!
//! Who holds a lock is the kernel's to know: the open file with flock and OFD locks, the process with the traditional ones.
//! Neither is changed by the thread that asks. Whether waiting would be a deadlock is the kernel's to say, too.

use super::paced;
use super::unbounded::{self, Restarts};
use crate::call::Call;
use crate::engine::{KernelCall, Names};
use crate::errno::{self, Errno};
use crate::policy::{Alone, Kind, Why};
use crate::sys::Sysno;
use std::ffi::{c_int, c_ulong};

pub fn flock(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int) -> c_int,
    fd: c_int,
    operation: c_int,
) -> Option<c_int> {
    // SAFETY: libc's own, with its caller's arguments, while that call lasts; so below.
    let lock = |operation| unsafe { real(fd, operation) };
    if operation & libc::LOCK_NB != 0 || operation & (libc::LOCK_SH | libc::LOCK_EX) == 0 {
        return paced::whole(call, Kind::Change, fd, || lock(operation));
    }
    let arguments = [fd as usize, operation as usize, 0, 0, 0, 0];
    wait_for(call, fd, || lock(operation | libc::LOCK_NB), Sysno::flock, arguments)
}

pub fn lockf(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int, i64) -> c_int,
    fd: c_int,
    command: c_int,
    length: i64,
) -> Option<c_int> {
    // SAFETY: as in `flock`.
    let lock = |command| unsafe { real(fd, command, length) };
    if command != libc::F_LOCK {
        return paced::whole(call, Kind::Change, fd, || lock(command));
    }
    // What libc's makes of it.
    // SAFETY: zeroes are a valid struct flock.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as i16;
    range.l_whence = libc::SEEK_CUR as i16;
    range.l_len = length;
    let arguments = [fd as usize, libc::F_SETLKW as usize, &raw const range as usize, 0, 0, 0];
    wait_for(call, fd, || lock(libc::F_TLOCK), Sysno::fcntl, arguments)
}

/// fcntl(2) with F_SETLKW or F_OFD_SETLKW, or without the W; None for other commands, too.
pub fn fcntl(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int, c_ulong) -> c_int,
    fd: c_int,
    command: c_int,
    argument: c_ulong,
) -> Option<c_int> {
    // SAFETY: as in `flock`.
    let lock = |command| unsafe { real(fd, command, argument) };
    let now = match command {
        libc::F_SETLKW => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_OFD_SETLK,
        _ => return paced::whole(call, Kind::Change, fd, || lock(command)),
    };
    let arguments = [fd as usize, command as usize, argument as usize, 0, 0, 0];
    wait_for(call, fd, || lock(now), Sysno::fcntl, arguments)
}

/// A lock that is got at once by `try_it`, or waited for by a system call.
fn wait_for(
    call: &Call<'_>,
    fd: c_int,
    try_it: impl Fn() -> c_int,
    number: Sysno,
    arguments: [usize; 6],
) -> Option<c_int> {
    if call.load().alone == Alone::Entirely {
        call.through(Why::Alone);
        return None;
    }
    if !call.has_engine() {
        call.through(Why::NoEngine);
        return None;
    }
    let mut parked = false;
    let attempt = || {
        let result = try_it();
        let would_wait = result == -1 && errno::get() == libc::EAGAIN;
        parked |= would_wait;
        (!would_wait).then_some(result as isize)
    };
    let names = Names::UntilBegun(fd);
    let wait = || {
        let request = KernelCall {
            number,
            arguments,
            names,
        };
        unbounded::perform(call, request)
    };
    let result = unbounded::wait_for(call, Restarts::AsHandlersSay, attempt, wait);
    if !parked {
        call.inline();
    }
    Some(result.map_or_else(
        |Errno(number)| {
            errno::set(number);
            -1
        },
        |result| result as c_int,
    ))
}
