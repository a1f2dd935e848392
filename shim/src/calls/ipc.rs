//! System V message queues and semaphore sets, and POSIX message queues. Each call is first tried
//! without blocking.
//!
//! A POSIX queue is a descriptor that supports poll(2). System V objects can only be waited for in
//! their own calls, so a pool thread makes the blocking call.

use super::{Verdict, poll};
use crate::calls::via::blocking_retry;
use crate::engine::{FdPin, KernelCall, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines;
use crate::runtime::restart::Restart;
use crate::state::holds::Hold;
use policy::Reason;
use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use sys::Sysno;
use sys::errno::Errno;

/// A system call with a flag for not blocking; `arguments` takes the flags to use. It is tried with
/// that flag first, then made on a pool thread. `would_wait` is the error that it returns instead
/// of blocking.
fn try_then_offload(
    call: &Call<'_>,
    number: Sysno,
    flags: c_int,
    would_wait: c_int,
    arguments: impl Fn(c_int) -> [usize; 6],
) -> Verdict {
    if flags & libc::IPC_NOWAIT != 0 {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    wait_unbounded(call, number, arguments(flags), || {
        // SAFETY: the C caller's arguments, while its call lasts.
        match unsafe { sys::call(number, arguments(flags | libc::IPC_NOWAIT)) } {
            Err(error) if error.0 == would_wait => None,
            result => Some(result),
        }
    })
}

/// Returns the result of `attempt`, or of the system call if a pool thread must wait in it. A
/// handler ends the wait, even with SA_RESTART: signal(7).
fn wait_unbounded(
    call: &Call<'_>,
    number: Sysno,
    arguments: [usize; 6],
    attempt: impl Fn() -> Option<Result<usize, Errno>>,
) -> Verdict {
    let mut parked = false;
    let attempt = || {
        let result = attempt();
        parked |= result.is_none();
        result.map(|result| result.map(|n| n as isize))
    };
    let wait = || {
        let request = KernelCall {
            number,
            arguments,
            pin: FdPin::None,
            is_first_try: false,
        };
        blocking_retry::perform(call, request)
    };
    let result = blocking_retry::wait_for(call, Restart::Never, attempt, wait);
    if !parked {
        call.inline();
    }
    Verdict::from_result(result)
}

/// msgrcv(2).
pub fn msgrcv(
    call: &Call<'_>,
    queue: c_int,
    message: *mut c_void,
    n: usize,
    kind: c_long,
    flags: c_int,
) -> Verdict {
    try_then_offload(call, Sysno::msgrcv, flags, libc::ENOMSG, |flags| {
        [
            queue as usize,
            message as usize,
            n,
            kind as usize,
            flags as usize,
            0,
        ]
    })
}

/// msgsnd(2).
pub fn msgsnd(
    call: &Call<'_>,
    queue: c_int,
    message: *const c_void,
    n: usize,
    flags: c_int,
) -> Verdict {
    try_then_offload(call, Sysno::msgsnd, flags, libc::EAGAIN, |flags| {
        [queue as usize, message as usize, n, flags as usize, 0, 0]
    })
}

/// semop(2).
pub fn semop(call: &Call<'_>, set: c_int, operations: *mut c_void, n: usize) -> Verdict {
    semtimedop(call, set, operations, n, std::ptr::null())
}

/// semtimedop(2).
pub fn semtimedop(
    call: &Call<'_>,
    set: c_int,
    operations: *mut c_void,
    n: usize,
    limit: *const libc::timespec,
) -> Verdict {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    let arguments =
        |limit: *const libc::timespec| [set as usize, operations as usize, n, limit as usize, 0, 0];
    // Invalid limits are for the kernel to reject.
    let deadline = if limit.is_null() {
        deadlines::NEVER
    } else {
        match sys::copy_in(limit).map(|time| sys::nanos_of(&time)) {
            Ok(Some(nanos)) => sys::now().saturating_add(nanos),
            _ => return Verdict::PassThrough(Reason::Unusual),
        }
    };
    // An attempt is an operation with a timeout of zero.
    let none = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    wait_unbounded(call, Sysno::semtimedop, arguments(limit), || {
        // SAFETY: the C caller's arguments, while its call lasts. EAGAIN can also come from an
        // operation with IPC_NOWAIT; the next call then returns it again.
        match unsafe { sys::call(Sysno::semtimedop, arguments(&raw const none)) } {
            Err(Errno::AGAIN) if sys::now() < deadline => None,
            result => Some(result),
        }
    })
}

/// A time of CLOCK_REALTIME in the past; a call with this time limit does not block.
static PAST: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A transfer on a POSIX message queue, until a time of CLOCK_REALTIME or forever. It is attempted,
/// and attempted again each time poll(2) reports the queue as ready.
fn on_queue(
    call: &Call<'_>,
    queue: c_int,
    events: i16,
    until: *const libc::timespec,
    attempt: impl Fn(c_int, *const libc::timespec) -> Result<usize, Errno>,
) -> Verdict {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    let hold = Hold::new(queue);
    let deadline = match poll::time_of_c(until) {
        Ok(None) => deadlines::NEVER,
        Ok(Some(time)) if sys::nanos_of(&time).is_some() => {
            sys::deadline_of(libc::CLOCK_REALTIME, &time)
        }
        _ => return Verdict::PassThrough(Reason::Unusual),
    };
    loop {
        match attempt(hold.fd(), &raw const PAST) {
            Err(error) if error.0 == libc::ETIMEDOUT => {}
            result => return Verdict::from_result(result.map(|n| n as isize)),
        }
        call.hold(&hold);
        let fd = hold.fd();
        match call.perform_until(&Request::Poll { fd, events }, deadline) {
            Ok(_) => {}
            Err(Unfinished::TimedOut) => return Verdict::Failed(Errno::TIMEDOUT),
            Err(Unfinished::Interrupted) => {
                return Verdict::Interrupted(Restart::IfHandlersAllow);
            }
            Err(Unfinished::Failed(_) | Unfinished::NotDone) => {
                return Verdict::PassThrough(Reason::NoEngine);
            }
        }
    }
}

/// mq_receive(3).
pub fn mq_receive(
    call: &Call<'_>,
    queue: c_int,
    message: *mut c_char,
    n: usize,
    priority: *mut c_uint,
) -> Verdict {
    mq_timedreceive(call, queue, message, n, priority, std::ptr::null())
}

/// mq_timedreceive(3).
pub fn mq_timedreceive(
    call: &Call<'_>,
    queue: c_int,
    message: *mut c_char,
    n: usize,
    priority: *mut c_uint,
    until: *const libc::timespec,
) -> Verdict {
    on_queue(call, queue, libc::POLLIN, until, |queue, until| {
        let arguments = [
            queue as usize,
            message as usize,
            n,
            priority as usize,
            until as usize,
            0,
        ];
        // SAFETY: the C caller's arguments, while its call lasts.
        unsafe { sys::call(Sysno::mq_timedreceive, arguments) }
    })
}

/// mq_send(3).
pub fn mq_send(
    call: &Call<'_>,
    queue: c_int,
    message: *const c_char,
    n: usize,
    priority: c_uint,
) -> Verdict {
    mq_timedsend(call, queue, message, n, priority, std::ptr::null())
}

/// mq_timedsend(3).
pub fn mq_timedsend(
    call: &Call<'_>,
    queue: c_int,
    message: *const c_char,
    n: usize,
    priority: c_uint,
    until: *const libc::timespec,
) -> Verdict {
    on_queue(call, queue, libc::POLLOUT, until, |queue, until| {
        let arguments = [
            queue as usize,
            message as usize,
            n,
            priority as usize,
            until as usize,
            0,
        ];
        // SAFETY: the C caller's arguments, while its call lasts.
        unsafe { sys::call(Sysno::mq_timedsend, arguments) }
    })
}
