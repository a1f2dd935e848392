//! sem_*(3): a fiber changes libc's own semaphore as libc does, or parks in the wait queue. Every
//! post checks that queue.

use super::futex::restart;
use super::kernel::{self, Futex};
use super::{Wait, WaitBackoff, Woken, deadline, is_supported, is_valid, released};
use crate::calls::Verdict;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::restart::LastAttempt;
use crate::runtime::thread::Thread;
use libc::{clockid_t, sem_t, timespec};
use queue::wait_table::{ANY, Which};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering::*};
use sys::errno::Errno;

/// libc's `struct new_sem` on 64-bit machines.
#[repr(C)]
struct Semaphore {
    /// The value in the lower half, plus the number of waiting threads times [`ONE_WAITS`].
    state: AtomicU64,
    /// Nonzero if other processes may use it.
    shared: c_int,
}

const ONE_WAITS: u64 = 1 << 32;
/// SEM_VALUE_MAX
const MAX_VALUE: u32 = i32::MAX as u32;

/// The program's semaphore.
#[inline(always)]
fn of<'a>(s: *mut sem_t) -> &'a Semaphore {
    // SAFETY: the C caller passes an initialised semaphore that stays alive during the call; the
    // layouts are the same.
    unsafe { &*s.cast::<Semaphore>() }
}

/// sem_wait(3).
pub fn wait(call: &Call<'_>, s: *mut sem_t) -> Verdict {
    wait_until(call, s, NEVER)
}

/// sem_timedwait(3).
pub fn timedwait(call: &Call<'_>, s: *mut sem_t, time: *const timespec) -> Verdict {
    clockwait(call, s, libc::CLOCK_REALTIME, time)
}

/// sem_clockwait(3).
pub fn clockwait(
    call: &Call<'_>,
    s: *mut sem_t,
    clock: clockid_t,
    time: *const timespec,
) -> Verdict {
    // SAFETY: the C caller passes a valid time.
    let time = unsafe { &*time };
    if !is_supported(clock) || !is_valid(time) {
        return Verdict::Failed(Errno::INVAL);
    }
    wait_until(call, s, deadline(clock, time))
}

/// sem_trywait(3). A failed attempt counts against the fiber's quantum, because the fiber that will
/// post may run on the same thread.
pub fn trywait(call: &Call<'_>, s: *mut sem_t) -> Verdict {
    call.inline();
    if take(s) {
        return Verdict::Done(0);
    }
    call.yield_if_exhausted();
    Verdict::Failed(Errno::AGAIN)
}

/// Takes one at once if the value allows it. Declines from time to time: sem_wait(3) is a
/// cancellation point even if it never waits, so it must sometimes check whether its fiber was
/// cancelled.
#[inline(always)]
pub fn wait_fast(thread: &Thread, s: *mut sem_t) -> Option<c_int> {
    (!thread.quantum().is_cancellation_due() && take(s)).then_some(0)
}

/// Takes one at once if the value allows it.
#[inline(always)]
pub fn take_fast(_: &Thread, s: *mut sem_t) -> Option<c_int> {
    take(s).then_some(0)
}

/// Takes one if the value allows it.
#[inline(always)]
fn take(s: *mut sem_t) -> bool {
    let change = |state: u64| (state as u32 > 0).then(|| state - 1);
    of(s).state.try_update(Acquire, Relaxed, change).is_ok()
}

fn wait_until(call: &Call<'_>, s: *mut sem_t, deadline: Deadline) -> Verdict {
    call.heed_cancellation();
    if take(s) {
        call.inline();
        return Verdict::Done(0);
    }
    if is_shared(s)
        && let Some(outcome) = wait_in_kernel(call, s, deadline)
    {
        return outcome;
    }
    let mut backoff = WaitBackoff::new();
    loop {
        let wait = Wait {
            key: s.addr(),
            mark: ANY,
            again: false,
            // Posts by another process are not noticed, so look again periodically.
            deadline: if is_shared(s) {
                backoff.next(deadline)
            } else {
                deadline
            },
        };
        let woken = match wait.park_first(call, || take(s)) {
            Some(woken) => woken,
            // The post came before the signal.
            None if take(s) => return Verdict::Done(0),
            None if call.continue_after_handlers(restart(deadline)) => Woken::ByWaker,
            None => {
                released(s, Which::First);
                return Verdict::Failed(Errno::INTR);
            }
        };
        if woken == Woken::Ready || take(s) {
            return Verdict::Done(0);
        }
        if deadline != NEVER && sys::now() >= deadline {
            released(s, Which::First);
            return Verdict::Failed(Errno::TIMEDOUT);
        }
    }
}

/// Waits in the kernel for another process's post, as one of the waiters that libc's sem_post(3)
/// wakes. Returns None if neither the engine nor the pool can wait for it.
fn wait_in_kernel(call: &Call<'_>, s: *mut sem_t, deadline: Deadline) -> Option<Verdict> {
    let state = &of(s).state;
    let is_taken = |state: u64| (state as u32 > 0).then(|| state - 1 - ONE_WAITS);
    // The value is the lower half, which comes first in memory.
    let futex = Futex {
        address: s.addr(),
        value: 0,
        mask: kernel::ALL,
        is_shared: true,
    };
    let mut last = LastAttempt::new();
    state.fetch_add(ONE_WAITS, Relaxed);
    loop {
        if state.try_update(Acquire, Relaxed, is_taken).is_ok() {
            return Some(Verdict::Done(0));
        }
        let error = match futex.wait(call, deadline) {
            Ok(()) | Err(Unfinished::Failed(_)) => continue,
            // A post may have arrived before the signal.
            Err(Unfinished::Interrupted) if call.attempts_again(&mut last) => continue,
            Err(error) => error,
        };
        // Stop counting as a waiter before handlers run: a handler may jump away, and a cancelled
        // fiber ends there.
        state.fetch_sub(ONE_WAITS, Relaxed);
        match error {
            Unfinished::NotDone => return None,
            Unfinished::Interrupted => {
                if !call.continue_after_handlers(restart(deadline)) {
                    return Some(Verdict::Failed(Errno::INTR));
                }
            }
            error => return Some(Verdict::from_error(error)),
        }
        state.fetch_add(ONE_WAITS, Relaxed);
    }
}

/// sem_post(3), on a fiber and off, in a signal handler too.
#[inline(always)]
pub fn post(real: unsafe extern "C" fn(*mut sem_t) -> c_int, s: *mut sem_t) -> c_int {
    let change = |state: u64| ((state as u32) < MAX_VALUE && state < ONE_WAITS).then(|| state + 1);
    if of(s).state.try_update(Release, Relaxed, change).is_err() {
        // libc must wake a thread, or the value is at its maximum.
        // SAFETY: libc's own function, with its caller's argument.
        let result = unsafe { real(s) };
        if result < 0 {
            return result;
        }
    }
    released(s, Which::First);
    0
}

fn is_shared(s: *mut sem_t) -> bool {
    of(s).shared != 0
}
