//! flock(2), lockf(3), and the commands of fcntl(2) that set locks.
//!
//! The kernel tracks the owner of a lock: the open file for flock and OFD locks, the process for
//! traditional ones. The calling thread makes no difference to either. The kernel also detects
//! deadlocks.

use crate::calls::Verdict;
use crate::calls::via::adaptive;
use crate::calls::via::blocking_retry;
use crate::engine::{FdPin, KernelCall};
use crate::runtime::call::Call;
use crate::runtime::restart::Restart;
use crate::state::holds::Hold;
use policy::CallKind;
use std::ffi::{c_int, c_ulong};
use sys::Sysno;
use sys::errno::{self, Errno};

pub fn flock(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int) -> c_int,
    fd: c_int,
    operation: c_int,
) -> Verdict<c_int> {
    let hold = &Hold::new(fd);
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let lock = |operation| unsafe { real(hold.fd(), operation) };
    if operation & libc::LOCK_NB != 0 || operation & (libc::LOCK_SH | libc::LOCK_EX) == 0 {
        return adaptive::call_libc(call, CallKind::Change, fd, || lock(operation));
    }
    let arguments = [operation as usize, 0];
    wait_for(
        call,
        hold,
        || lock(operation | libc::LOCK_NB),
        Sysno::flock,
        arguments,
    )
}

pub fn lockf(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int, i64) -> c_int,
    fd: c_int,
    command: c_int,
    length: i64,
) -> Verdict<c_int> {
    let hold = &Hold::new(fd);
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let lock = |command| unsafe { real(hold.fd(), command, length) };
    if command != libc::F_LOCK {
        return adaptive::call_libc(call, CallKind::Change, fd, || lock(command));
    }
    // The same request that libc's lockf makes.
    // SAFETY: zeroes are a valid struct flock.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as i16;
    range.l_whence = libc::SEEK_CUR as i16;
    range.l_len = length;
    let arguments = [libc::F_SETLKW as usize, &raw const range as usize];
    let result = wait_for(call, hold, || lock(libc::F_TLOCK), Sysno::fcntl, arguments);
    unless_closed(hold, result)
}

/// fcntl(2) with F_SETLKW or F_OFD_SETLKW, or with their non-blocking forms.
pub fn fcntl(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int, c_ulong) -> c_int,
    fd: c_int,
    command: c_int,
    argument: c_ulong,
) -> Verdict<c_int> {
    let hold = &Hold::new(fd);
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let lock = |command| unsafe { real(hold.fd(), command, argument) };
    let now = match command {
        libc::F_SETLKW => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_OFD_SETLK,
        _ => return adaptive::call_libc(call, CallKind::Change, fd, || lock(command)),
    };
    let arguments = [command as usize, argument as usize];
    let result = wait_for(call, hold, || lock(now), Sysno::fcntl, arguments);
    if command == libc::F_SETLKW {
        unless_closed(hold, result)
    } else {
        result
    }
}

/// The final result of waiting for a process's lock. Closing any descriptor of the file releases
/// the process's locks on it, so the kernel returns EBADF to callers that waited with that
/// descriptor; the lock is released when the hold ends.
fn unless_closed(hold: &Hold, verdict: Verdict<c_int>) -> Verdict<c_int> {
    match verdict {
        Verdict::Done(0) if hold.has_moved() => Verdict::Failed(Errno::BADF),
        verdict => verdict,
    }
}

/// Takes a lock, at once with `try_it` if possible. Otherwise makes a blocking system call with the
/// descriptor and `arguments`.
fn wait_for(
    call: &Call<'_>,
    hold: &Hold,
    try_it: impl Fn() -> c_int,
    number: Sysno,
    [second, third]: [usize; 2],
) -> Verdict<c_int> {
    if let Some(reason) = call.reason_not_to_offload() {
        return Verdict::PassThrough(reason);
    }
    let mut parked = false;
    let attempt = || {
        let result = try_it();
        let would_wait = result == -1 && errno::get() == libc::EAGAIN;
        if would_wait {
            parked = true;
            call.hold(hold);
        }
        (!would_wait).then_some(Ok(result as isize))
    };
    let wait = || {
        let fd = hold.fd();
        let request = KernelCall {
            number,
            arguments: [fd as usize, second, third, 0, 0, 0],
            pin: FdPin::UntilStarted(fd),
            is_first_try: false,
        };
        blocking_retry::perform(call, request)
    };
    let result = blocking_retry::wait_for(call, Restart::IfHandlersAllow, attempt, wait);
    if !parked {
        call.inline();
    }
    Verdict::from_result(result.map(|result| result as c_int))
}
