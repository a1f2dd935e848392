//! sem_*(3): a fiber changes libc's own semaphore as libc does, or waits in the lot; who posts
//! looks there.

use super::kernel::{self, Futex};
use super::{Patience, Wait, Woken, deadline, is_supported, is_valid, released};
use crate::call::{Call, LastLook};
use crate::calls::Outcome;
use crate::deadlines::{Deadline, NEVER};
use crate::errno::Errno;
use crate::lot::{ANY, Which};
use crate::signal::Handled;
use crate::sys;
use crate::thread::Thread;
use libc::{clockid_t, sem_t, timespec};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// libc's `struct new_sem` on 64-bit machines.
#[repr(C)]
struct Semaphore {
    /// The value, and how many threads wait times [`ONE_WAITS`].
    state: AtomicU64,
    /// Not 0 where other processes may use it.
    shared: c_int,
}

const ONE_WAITS: u64 = 1 << 32;
/// SEM_VALUE_MAX
const MOST: u32 = i32::MAX as u32;

/// The program's semaphore.
#[inline(always)]
fn of<'a>(s: *mut sem_t) -> &'a Semaphore {
    // SAFETY: the C caller's, initialised and alive during the call; of the same layout.
    unsafe { &*s.cast::<Semaphore>() }
}

/// sem_wait(3).
pub fn wait(call: &Call<'_>, s: *mut sem_t) -> Outcome {
    wait_until(call, s, NEVER)
}

/// sem_timedwait(3).
pub fn timedwait(call: &Call<'_>, s: *mut sem_t, time: *const timespec) -> Outcome {
    clockwait(call, s, libc::CLOCK_REALTIME, time)
}

/// sem_clockwait(3).
pub fn clockwait(
    call: &Call<'_>,
    s: *mut sem_t,
    clock: clockid_t,
    time: *const timespec,
) -> Outcome {
    // SAFETY: the C caller's.
    let time = unsafe { &*time };
    if !is_supported(clock) || !is_valid(time) {
        return Outcome::Done(Err(Errno::INVAL));
    }
    wait_until(call, s, deadline(clock, time))
}

/// sem_trywait(3). A fiber that tries in vain lets others run now and then: it may wait for one of
/// the same thread.
pub fn trywait(call: &Call<'_>, s: *mut sem_t) -> Outcome {
    call.inline();
    if take(s) {
        return Outcome::Done(Ok(0));
    }
    call.give_way();
    Outcome::Done(Err(Errno::AGAIN))
}

/// Takes one at once if there is one. Not always: as a cancellation point, even one that never
/// waits, it has to look now and then whether its fiber was cancelled.
#[inline(always)]
pub fn wait_at_once(thread: &Thread, s: *mut sem_t) -> Option<c_int> {
    (!thread.is_cancellation_due() && take(s)).then_some(0)
}

/// Takes one at once if there is one.
#[inline(always)]
pub fn take_at_once(_: &Thread, s: *mut sem_t) -> Option<c_int> {
    take(s).then_some(0)
}

/// Takes one if there is one.
#[inline(always)]
fn take(s: *mut sem_t) -> bool {
    let change = |state: u64| (state as u32 > 0).then(|| state - 1);
    of(s).state.try_update(Acquire, Relaxed, change).is_ok()
}

fn wait_until(call: &Call<'_>, s: *mut sem_t, deadline: Deadline) -> Outcome {
    call.heed_cancellation();
    if take(s) {
        call.inline();
        return Outcome::Done(Ok(0));
    }
    if is_shared(s)
        && let Some(outcome) = wait_in_kernel(call, s, deadline)
    {
        return outcome;
    }
    let mut patience = Patience::new();
    loop {
        let wait = Wait {
            key: s.addr(),
            mark: ANY,
            again: false,
            // Another process's posts are not seen.
            deadline: if is_shared(s) {
                patience.next(deadline)
            } else {
                deadline
            },
        };
        let woken = wait.park(call, || take(s));
        if woken == Woken::Ready || take(s) {
            return Outcome::Done(Ok(0));
        }
        if deadline != NEVER && sys::now() >= deadline {
            released(s, Which::First);
            return Outcome::Done(Err(Errno::TIMEDOUT));
        }
        if woken == Woken::Interrupted {
            released(s, Which::First);
            return Outcome::Done(Err(Errno::INTR));
        }
    }
}

/// Waits for another process's posts, in the kernel, as one of those that libc's sem_post(3) wakes.
/// None where nobody can.
fn wait_in_kernel(call: &Call<'_>, s: *mut sem_t, deadline: Deadline) -> Option<Outcome> {
    let state = &of(s).state;
    let is_taken = |state: u64| (state as u32 > 0).then(|| state - 1 - ONE_WAITS);
    // The value is the lower half, which comes first.
    let futex = Futex {
        address: s.addr(),
        value: 0,
        mask: kernel::ALL,
        is_shared: true,
    };
    let mut look = LastLook::new();
    state.fetch_add(ONE_WAITS, Relaxed);
    loop {
        if state.try_update(Acquire, Relaxed, is_taken).is_ok() {
            return Some(Outcome::Done(Ok(0)));
        }
        let error = match futex.wait(call, deadline) {
            // A post may have come before the signal.
            Some(Err(Errno::RESTART)) if call.looks_again(&mut look) => continue,
            Some(Err(error @ (Errno::TIME | Errno::RESTART))) => Some(error),
            Some(_) => continue,
            None => None,
        };
        // It waits no more, for now at least: handlers may jump away, and a cancelled fiber ends in
        // there.
        state.fetch_sub(ONE_WAITS, Relaxed);
        match error? {
            Errno::TIME => return Some(Outcome::Done(Err(Errno::TIMEDOUT))),
            _ if call.interrupted() == Handled::End => {
                return Some(Outcome::Done(Err(Errno::INTR)));
            }
            _ => state.fetch_add(ONE_WAITS, Relaxed),
        };
    }
}

/// sem_post(3), on a fiber and off, in a signal handler too.
#[inline(always)]
pub fn post(real: unsafe extern "C" fn(*mut sem_t) -> c_int, s: *mut sem_t) -> c_int {
    let change = |state: u64| ((state as u32) < MOST && state < ONE_WAITS).then(|| state + 1);
    if of(s).state.try_update(Release, Relaxed, change).is_err() {
        // A thread is to be woken, or the value is as large as can be.
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
