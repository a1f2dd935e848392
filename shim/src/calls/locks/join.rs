//! pthread_join(3) and its variants, for plain threads. Only libc sees a thread end, so a pool
//! thread waits for it.
//!
//! The pool thread waits as long as necessary. If there are more joins than pool threads for such
//! waits, the remaining joins share the other threads in intervals of [`INTERVAL`], so that they do
//! not delay anyone for long.

use super::{Wait, WaitBackoff, code, deadline, is_supported, is_valid};
use crate::calls::Verdict;
use crate::calls::via::offload;
use crate::context;
use crate::engine::pool;
use crate::runtime::call::Call;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::state::loaded;
use libc::{clockid_t, pthread_t, timespec};
use policy::Reason;
use queue::wait_table::ANY;
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use sys::errno::Errno;

type Value = *mut *mut c_void;

type TryJoin = unsafe extern "C" fn(pthread_t, Value) -> c_int;
type ClockJoin = unsafe extern "C" fn(pthread_t, Value, clockid_t, *const timespec) -> c_int;

/// pthread_tryjoin_np and pthread_clockjoin_np of the library behind this one. They are not called
/// by name: a library in front of this one, such as ThreadSanitizer's, may have called this one for
/// a join, and would count these calls as further joins by the program.
static TRY_JOIN: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static CLOCK_JOIN: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

pub fn bind() {
    for (function, name) in [
        (&TRY_JOIN, c"pthread_tryjoin_np"),
        (&CLOCK_JOIN, c"pthread_clockjoin_np"),
    ] {
        function.store(loaded::next_anyway(name), Relaxed);
    }
}

/// # Safety
/// The requirements of pthread_tryjoin_np(3) apply, and the calling thread is off its fiber.
unsafe fn try_join(thread: pthread_t, value: Value) -> c_int {
    // SAFETY: null or libc's function of this type, which `bind` found before any thread was
    // attached.
    match unsafe { std::mem::transmute::<*mut c_void, Option<TryJoin>>(TRY_JOIN.load(Relaxed)) } {
        // SAFETY: our caller guarantees what pthread_tryjoin_np(3) requires.
        Some(try_join) => unsafe { try_join(thread, value) },
        None => libc::EINVAL,
    }
}

/// pthread_clockjoin_np(3) with CLOCK_MONOTONIC. Returns EBUSY once `time`, if not null, has
/// passed.
///
/// # Safety
/// The requirements of pthread_clockjoin_np(3) apply.
unsafe fn clock_join(thread: pthread_t, value: Value, time: *const timespec) -> c_int {
    // SAFETY: null or libc's function of this type, which `bind` found before any thread was
    // attached.
    let clock_join =
        unsafe { std::mem::transmute::<*mut c_void, Option<ClockJoin>>(CLOCK_JOIN.load(Relaxed)) };
    // SAFETY: our caller guarantees what pthread_clockjoin_np(3) requires.
    let join =
        |clock_join: ClockJoin| unsafe { clock_join(thread, value, libc::CLOCK_MONOTONIC, time) };
    match clock_join.map(join) {
        Some(libc::ETIMEDOUT) => libc::EBUSY,
        Some(error) => error,
        None => libc::EINVAL,
    }
}

/// How long a join uses a thread that it shares with others, in nanoseconds.
const INTERVAL: u64 = 100_000_000;

pub fn join(call: &Call<'_>, thread: pthread_t, value: Value) -> Verdict {
    join_until(call, thread, value, NEVER).map_or_else(Verdict::PassThrough, code)
}

pub fn timedjoin(
    call: &Call<'_>,
    thread: pthread_t,
    value: Value,
    time: *const timespec,
) -> Verdict {
    clockjoin(call, thread, value, libc::CLOCK_REALTIME, time)
}

pub fn clockjoin(
    call: &Call<'_>,
    thread: pthread_t,
    value: Value,
    clock: clockid_t,
    time: *const timespec,
) -> Verdict {
    // SAFETY: the C caller passes a valid time, or null for no limit.
    let until = match unsafe { time.as_ref() } {
        None => NEVER,
        Some(time) if is_valid(time) && is_supported(clock) => deadline(clock, time),
        Some(_) => return Verdict::PassThrough(Reason::Unusual),
    };
    join_until(call, thread, value, until).map_or_else(Verdict::PassThrough, code)
}

/// thrd_join(3).
pub fn thrd_join(call: &Call<'_>, thread: pthread_t, result: *mut c_int) -> Verdict {
    let mut value = null_mut();
    match join_until(call, thread, &raw mut value, NEVER) {
        Err(reason) => Verdict::PassThrough(reason),
        Ok(Err(_)) => Verdict::Done(super::c11::ERROR),
        Ok(Ok(())) => {
            if !result.is_null() {
                // SAFETY: not null, and the C caller passes a valid pointer.
                unsafe { result.write(value.addr() as c_int) };
            }
            Verdict::Done(super::c11::SUCCESS)
        }
    }
}

/// Returns Err if libc's own function should do the join.
fn join_until(
    call: &Call<'_>,
    thread: pthread_t,
    value: Value,
    deadline: Deadline,
) -> Result<Result<(), Errno>, Reason> {
    // SAFETY: pthread_self touches no memory.
    if thread == unsafe { libc::pthread_self() } {
        return Err(Reason::Unusual);
    }
    if call.is_sole_fiber() {
        return Err(Reason::Alone);
    }
    // SAFETY: the C caller passes a joinable thread and a valid pointer.
    let mut error = context::in_libc(|| unsafe { try_join(thread, value) });
    let mut backoff = WaitBackoff::new();
    while error == libc::EBUSY {
        let now = sys::now();
        if now >= deadline {
            return Ok(Err(Errno::TIMEDOUT));
        }
        if !call.has_engine() {
            // There is no pool either, so check again periodically.
            error = check_again(call, thread, value, backoff.next(deadline));
            continue;
        }
        let own_thread = pool::UnboundedWaitPermit::acquire();
        let until = if own_thread.is_some() {
            deadline
        } else {
            deadline.min(now + INTERVAL)
        };
        error = offload::run(call, || {
            let time = sys::timespec_of(until);
            let time = if until == NEVER {
                null()
            } else {
                &raw const time
            };
            // SAFETY: the C caller's arguments are valid during its call, which lasts until the
            // pool thread is done.
            unsafe { clock_join(thread, value, time) }
        })
        .ok_or(Reason::NoEngine)?;
    }
    Ok(if error == 0 {
        Ok(())
    } else {
        Err(Errno(error))
    })
}

/// Parks until `deadline`, then checks whether the thread has ended.
fn check_again(call: &Call<'_>, thread: pthread_t, value: Value, deadline: Deadline) -> c_int {
    let wait = Wait {
        // No one wakes it: nothing else uses the address of this call's own variable as a key.
        key: (&raw const deadline).addr(),
        mark: ANY,
        again: false,
        deadline,
    };
    wait.park(call, || false);
    // SAFETY: the C caller passes a joinable thread and a valid pointer.
    context::in_libc(|| unsafe { try_join(thread, value) })
}
