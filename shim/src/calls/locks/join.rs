//! pthread_join(3) and its kin: of a plain thread, whose end only libc sees; so a thread of the
//! pool waits for it.
//!
//! It waits as long as that takes. Where there are more joins than the pool has such threads the
//! others share the rest, in intervals of [`TURN`], and so hold up nobody for long.

use super::{Patience, Wait, code, deadline, is_supported, is_valid, plainly};
use crate::call::Call;
use crate::calls::{Outcome, offload};
use crate::deadlines::{Deadline, NEVER};
use crate::errno::Errno;
use crate::lot::ANY;
use crate::policy::Why;
use crate::{pool, sys};
use libc::{clockid_t, pthread_t, timespec};
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

type Value = *mut *mut c_void;

type TryJoin = unsafe extern "C" fn(pthread_t, Value) -> c_int;
type ClockJoin = unsafe extern "C" fn(pthread_t, Value, clockid_t, *const timespec) -> c_int;

/// pthread_tryjoin_np and pthread_clockjoin_np of the library behind this one. Not by their names:
/// a library in front of this one, as ThreadSanitizer's can be, has called this one for a join, and
/// would take these for joins of the program's.
static TRY_JOIN: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static CLOCK_JOIN: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

pub fn bind() {
    for (function, name) in [
        (&TRY_JOIN, c"pthread_tryjoin_np"),
        (&CLOCK_JOIN, c"pthread_clockjoin_np"),
    ] {
        // SAFETY: a C string.
        function.store(
            unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) },
            Relaxed,
        );
    }
}

/// # Safety
/// As pthread_tryjoin_np(3), on a thread that is off its fiber.
unsafe fn try_join(thread: pthread_t, value: Value) -> c_int {
    // SAFETY: null, or libc's function of this type, which `bind` found before any thread was
    // attached.
    match unsafe { std::mem::transmute::<*mut c_void, Option<TryJoin>>(TRY_JOIN.load(Relaxed)) } {
        // SAFETY: passed on to our caller.
        Some(try_join) => unsafe { try_join(thread, value) },
        None => libc::EINVAL,
    }
}

/// pthread_clockjoin_np(3) by CLOCK_MONOTONIC; EBUSY when `time`, if it is not null, is over.
///
/// # Safety
/// As pthread_clockjoin_np(3).
unsafe fn clock_join(thread: pthread_t, value: Value, time: *const timespec) -> c_int {
    // SAFETY: as in `try_join`.
    let clock_join =
        unsafe { std::mem::transmute::<*mut c_void, Option<ClockJoin>>(CLOCK_JOIN.load(Relaxed)) };
    // SAFETY: passed on to our caller.
    let join =
        |clock_join: ClockJoin| unsafe { clock_join(thread, value, libc::CLOCK_MONOTONIC, time) };
    match clock_join.map(join) {
        Some(libc::ETIMEDOUT) => libc::EBUSY,
        Some(error) => error,
        None => libc::EINVAL,
    }
}

/// How long a join keeps a thread that it shares with others, in nanoseconds.
const TURN: u64 = 100_000_000;

pub fn join(call: &Call<'_>, thread: pthread_t, value: Value) -> Outcome {
    join_until(call, thread, value, NEVER).map_or_else(Outcome::Through, code)
}

pub fn timedjoin(
    call: &Call<'_>,
    thread: pthread_t,
    value: Value,
    time: *const timespec,
) -> Outcome {
    clockjoin(call, thread, value, libc::CLOCK_REALTIME, time)
}

pub fn clockjoin(
    call: &Call<'_>,
    thread: pthread_t,
    value: Value,
    clock: clockid_t,
    time: *const timespec,
) -> Outcome {
    // SAFETY: the C caller's; null is without limit.
    let until = match unsafe { time.as_ref() } {
        None => NEVER,
        Some(time) if is_valid(time) && is_supported(clock) => deadline(clock, time),
        Some(_) => return Outcome::Through(Why::Unusual),
    };
    join_until(call, thread, value, until).map_or_else(Outcome::Through, code)
}

/// thrd_join(3).
pub fn thrd_join(call: &Call<'_>, thread: pthread_t, result: *mut c_int) -> Outcome {
    let mut value = null_mut();
    match join_until(call, thread, &raw mut value, NEVER) {
        Err(why) => Outcome::Through(why),
        Ok(Err(_)) => Outcome::Done(Ok(super::c11::ERROR)),
        Ok(Ok(())) => {
            if !result.is_null() {
                // SAFETY: not null; the C caller's.
                unsafe { result.write(value.addr() as c_int) };
            }
            Outcome::Done(Ok(super::c11::SUCCESS))
        }
    }
}

/// Err where libc's own function is to do it.
fn join_until(
    call: &Call<'_>,
    thread: pthread_t,
    value: Value,
    deadline: Deadline,
) -> Result<Result<(), Errno>, Why> {
    // SAFETY: no memory is touched.
    if thread == unsafe { libc::pthread_self() } {
        return Err(Why::Unusual);
    }
    if call.is_sole_fiber() {
        return Err(Why::Alone);
    }
    // SAFETY: the C caller's.
    let mut error = plainly(|| unsafe { try_join(thread, value) });
    let mut patience = Patience::new();
    while error == libc::EBUSY {
        let now = sys::now();
        if now >= deadline {
            return Ok(Err(Errno::TIMEDOUT));
        }
        if !call.has_engine() {
            // No pool either: look again by and by.
            error = look_again(call, thread, value, patience.next(deadline));
            continue;
        }
        let own_thread = pool::Unbounded::begin();
        let until = if own_thread.is_some() {
            deadline
        } else {
            deadline.min(now + TURN)
        };
        error = offload::run(call, || {
            let time = timespec {
                tv_sec: (until / 1_000_000_000) as i64,
                tv_nsec: (until % 1_000_000_000) as i64,
            };
            let time = if until == NEVER {
                null()
            } else {
                &raw const time
            };
            // SAFETY: the C caller's, whose call lasts until the pool's thread is done.
            unsafe { clock_join(thread, value, time) }
        })
        .ok_or(Why::NoEngine)?;
    }
    Ok(if error == 0 {
        Ok(())
    } else {
        Err(Errno(error))
    })
}

/// Parks until `deadline`, then looks whether the thread has ended.
fn look_again(call: &Call<'_>, thread: pthread_t, value: Value, deadline: Deadline) -> c_int {
    let wait = Wait {
        // Nobody wakes it: nothing else has the address of this call's own variable.
        key: (&raw const deadline).addr(),
        mark: ANY,
        again: false,
        deadline,
    };
    wait.park(call, || false);
    // SAFETY: the C caller's.
    plainly(|| unsafe { try_join(thread, value) })
}
