//! nanosleep(2), clock_nanosleep(2) and their variants: pure waits for a deadline.
//!
//! A handler ends each of them, even with SA_RESTART, and they report the remaining time.

use super::Verdict;
use crate::engine::{FdPin, KernelCall, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::Deadline;
use crate::runtime::restart::Restart;
use crate::state::descriptors;
use libc::timespec;
use policy::{Contention, Reason};
use std::ffi::{c_int, c_uint};
use sys::errno::{self, Errno};
use syscalls::Sysno;

/// nanosleep(2).
pub fn nanosleep(call: &Call<'_>, time: *const timespec, left: *mut timespec) -> Verdict {
    let Some(nanos) = relative(time) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    match sleep_for(call, nanos) {
        Ok(slept) => Verdict::from_result(slept.map(|()| 0).map_err(|rest| ended(left, rest))),
        Err(reason) => Verdict::PassThrough(reason),
    }
}

/// usleep(3).
pub fn usleep(call: &Call<'_>, microseconds: c_uint) -> Verdict {
    match sleep_for(call, u64::from(microseconds) * 1000) {
        Ok(slept) => Verdict::from_result(slept.map(|()| 0).map_err(|_| Errno::INTR)),
        Err(reason) => Verdict::PassThrough(reason),
    }
}

/// sleep(3): returns the whole seconds that remain.
pub fn sleep(call: &Call<'_>, seconds: c_uint) -> Verdict {
    match sleep_for(call, u64::from(seconds) * SECOND) {
        Ok(Ok(())) => Verdict::Done(0),
        Ok(Err(rest)) => {
            errno::set(libc::EINTR);
            Verdict::Done((rest / SECOND) as isize)
        }
        Err(reason) => Verdict::PassThrough(reason),
    }
}

/// thrd_sleep(3): returns -1 if a handler ended it, another negative number for an error.
pub fn thrd_sleep(call: &Call<'_>, time: *const timespec, left: *mut timespec) -> Verdict {
    let Some(nanos) = relative(time) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    match sleep_for(call, nanos) {
        Ok(Ok(())) => Verdict::Done(0),
        Ok(Err(rest)) => Verdict::Done(if ended(left, rest) == Errno::INTR {
            -1
        } else {
            -2
        }),
        Err(reason) => Verdict::PassThrough(reason),
    }
}

/// clock_nanosleep(2): returns the error as its result.
pub fn clock_nanosleep(
    call: &Call<'_>,
    clock: c_int,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> Verdict {
    let Some(nanos) = relative(time) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    if call.load().contention == Contention::SoleFiber {
        return Verdict::PassThrough(Reason::Alone);
    }
    let slept = match (clock, flags) {
        // Setting the time of day does not affect a relative wait.
        (libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME, 0) => match sleep_for(call, nanos) {
            Ok(slept) => slept.map_err(|rest| ended(left, rest).into()),
            Err(reason) => return Verdict::PassThrough(reason),
        },
        (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME) => {
            match sleep_until(call, sys::deadline_of(clock, &sys::timespec_of(nanos))) {
                Ok(slept) => slept.map_err(|_| Errno::INTR.into()),
                Err(reason) => return Verdict::PassThrough(reason),
            }
        }
        (libc::CLOCK_REALTIME | libc::CLOCK_BOOTTIME, libc::TIMER_ABSTIME) if call.has_engine() => {
            sleep_by_timer(call, clock, sys::timespec_of(nanos))
        }
        // The machine may be suspended during the wait.
        (libc::CLOCK_BOOTTIME, 0) if call.has_engine() => {
            let now = || sys::clock(clock).unwrap_or(0);
            let end = now().saturating_add(nanos);
            sleep_by_timer(call, clock, sys::timespec_of(end)).map_err(|error| match error {
                Unfinished::Failed(Errno::INTR) => ended(left, end.saturating_sub(now())).into(),
                error => error,
            })
        }
        (libc::CLOCK_TAI, libc::TIMER_ABSTIME) | (libc::CLOCK_PROCESS_CPUTIME_ID, _)
            if call.has_engine() =>
        {
            sleep_elsewhere(call, clock, flags, nanos, left)
        }
        _ => return Verdict::PassThrough(Reason::Unusual),
    };
    match slept {
        Ok(()) => Verdict::Done(0),
        Err(Unfinished::Failed(Errno::INTR)) if call.is_left_to_libc() => {
            Verdict::PassThrough(Reason::Alone)
        }
        Err(Unfinished::Failed(error)) => Verdict::Done(error.0 as isize),
        Err(error) => Verdict::from_error(error),
    }
}

const SECOND: u64 = 1_000_000_000;

/// A valid time in nanoseconds; libc handles invalid ones.
fn relative(time: *const timespec) -> Option<u64> {
    sys::nanos_of(&sys::copy_in(time).ok()?)
}

/// Writes the remaining time of a wait that a handler ended, and returns the error.
fn ended(left: *mut timespec, rest: u64) -> Errno {
    if left.is_null() {
        return Errno::INTR;
    }
    sys::copy_out(left, sys::timespec_of(rest))
        .err()
        .unwrap_or(Errno::INTR)
}

/// Ok(Err(nanoseconds)) is the time that remained when a handler ended the wait.
type Slept = Result<Result<(), u64>, Reason>;

fn sleep_for(call: &Call<'_>, nanos: u64) -> Slept {
    sleep_until(call, sys::now().saturating_add(nanos))
}

fn sleep_until(call: &Call<'_>, deadline: Deadline) -> Slept {
    if let Some(reason) = call.reason_to_pass() {
        return Err(reason);
    }
    let claim = std::ptr::null();
    while call.perform_until(&Request::Wait { claim }, deadline) == Err(Unfinished::Interrupted) {
        let rest = deadline.saturating_sub(sys::now());
        if !call.continue_after_handlers(Restart::Never) {
            return if call.is_left_to_libc() {
                Err(Reason::Alone)
            } else {
                Ok(Err(rest))
            };
        }
    }
    Ok(Ok(()))
}

/// Sleeps by a clock that may be set, or that continues during suspend: uses a kernel timer.
fn sleep_by_timer(call: &Call<'_>, clock: c_int, time: timespec) -> Result<(), Unfinished> {
    let timer = sys::timer_descriptor(clock, time).and_then(descriptors::adopt);
    let timer = timer.map_err(|_| Unfinished::NotDone)?;
    let events = libc::POLLIN;
    let slept = call.perform(&Request::Poll { fd: timer, events });
    descriptors::disown(timer);
    let _ = sys::close(timer);
    match slept {
        Ok(_) => Ok(()),
        Err(Unfinished::Interrupted) if !call.continue_after_handlers(Restart::Never) => {
            Err(Errno::INTR.into())
        }
        Err(Unfinished::Interrupted) => sleep_by_timer(call, clock, time),
        Err(_) => Err(Unfinished::NotDone),
    }
}

/// Sleeps by any other clock: on a pool thread.
fn sleep_elsewhere(
    call: &Call<'_>,
    clock: c_int,
    flags: c_int,
    nanos: u64,
    left: *mut timespec,
) -> Result<(), Unfinished> {
    let now = || sys::clock(clock).ok_or(Errno::INVAL);
    let until = if flags == libc::TIMER_ABSTIME {
        nanos
    } else {
        now()?.saturating_add(nanos)
    };
    let time = sys::timespec_of(until);
    let sleep = KernelCall {
        number: Sysno::clock_nanosleep,
        arguments: [
            clock as usize,
            libc::TIMER_ABSTIME as usize,
            &raw const time as usize,
            0,
            0,
            0,
        ],
        pin: FdPin::None,
        is_first_try: false,
    };
    loop {
        match call.perform(&Request::Kernel(sleep)) {
            Err(Unfinished::Interrupted) => {
                let rest = until.saturating_sub(now()?);
                if !call.continue_after_handlers(Restart::Never) {
                    let is_absolute = flags == libc::TIMER_ABSTIME;
                    let left = if is_absolute {
                        std::ptr::null_mut()
                    } else {
                        left
                    };
                    return Err(ended(left, rest).into());
                }
            }
            slept => return slept.map(drop),
        }
    }
}
