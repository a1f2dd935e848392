//! pthread_cond_*(3): a fiber waits in the shim's wait queue, not in the condition's memory. Every
//! signal checks that queue first.
//!
//! The fiber queues up before it releases the mutex, so that no later signal is lost. A signal
//! wakes a fiber if one waits, otherwise a thread; a broadcast wakes both.

use super::{WAIT_TABLE, Wait, WaitBackoff, Woken, code, is_supported, is_valid, mutex, stand_in};
use crate::calls::Verdict;
use crate::runtime::call::Call;
use crate::runtime::deadlines::{Deadline, NEVER};
use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, timespec};
use policy::Reason;
use queue::wait_table::{ANY, Which};
use std::cell::Cell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use sys::errno::Errno;

type OnCond = unsafe extern "C" fn(*mut pthread_cond_t) -> c_int;

/// pthread_cond_wait(3).
pub fn wait(call: &Call<'_>, c: *mut pthread_cond_t, m: *mut pthread_mutex_t) -> Verdict {
    verdict(wait_until(call, c, m, NEVER))
}

/// pthread_cond_timedwait(3).
pub fn timedwait(
    call: &Call<'_>,
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    time: *const timespec,
) -> Verdict {
    let clock = if flags(c) & MONOTONIC != 0 {
        libc::CLOCK_MONOTONIC
    } else {
        libc::CLOCK_REALTIME
    };
    clockwait(call, c, m, clock, time)
}

/// pthread_cond_clockwait(3).
pub fn clockwait(
    call: &Call<'_>,
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    clock: clockid_t,
    time: *const timespec,
) -> Verdict {
    // SAFETY: the C caller passes a valid time.
    let time = unsafe { &*time };
    if !is_valid(time) || !is_supported(clock) {
        return code(Err(Errno::INVAL));
    }
    verdict(wait_until(call, c, m, super::deadline(clock, time)))
}

/// EINTR, which these functions never return, means that libc makes the call.
fn verdict(result: Result<(), Errno>) -> Verdict {
    match result {
        Err(Errno::INTR) => Verdict::PassThrough(Reason::Alone),
        result => code(result),
    }
}

fn wait_until(
    call: &Call<'_>,
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    deadline: Deadline,
) -> Result<(), Errno> {
    call.heed_cancellation();
    let shared = flags(c) & SHARED != 0;
    if shared && let Some(result) = stand_in::wait(call, c, m, deadline) {
        return result;
    }
    // Signals from another process are not noticed, so the wait ends with a spurious wake-up from
    // time to time, and the program checks its predicate again.
    let wait = Wait {
        key: c.addr(),
        mark: ANY,
        again: false,
        deadline: if shared {
            WaitBackoff::longest(deadline)
        } else {
            deadline
        },
    };
    let refused = Cell::new(None);
    let woken = wait.park_first(call, || {
        refused.set(mutex::give(call, m).err());
        refused.get().is_some()
    });
    if let Some(error) = refused.get() {
        return Err(error);
    }
    mutex::take_after_wait(call, m, woken.is_none())?;
    if woken == Some(Woken::Timeout) && (!shared || sys::now() >= deadline) {
        return Err(Errno::TIMEDOUT);
    }
    Ok(())
}

/// pthread_cond_wait(3) off a fiber.
#[inline(always)]
pub unsafe fn wait_plainly(
    real: unsafe extern "C" fn(*mut pthread_cond_t, *mut pthread_mutex_t) -> c_int,
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
) -> c_int {
    mutex::before_unseen_release(m);
    // SAFETY: libc's own function, with its caller's arguments.
    unsafe { real(c, m) }
}

/// pthread_cond_timedwait(3) off a fiber.
#[inline(always)]
pub unsafe fn timedwait_plainly(
    real: unsafe extern "C" fn(*mut pthread_cond_t, *mut pthread_mutex_t, *const timespec) -> c_int,
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    time: *const timespec,
) -> c_int {
    mutex::before_unseen_release(m);
    // SAFETY: libc's own function, with its caller's arguments.
    unsafe { real(c, m, time) }
}

/// pthread_cond_clockwait(3) off a fiber.
#[inline(always)]
pub unsafe fn clockwait_plainly(
    real: unsafe extern "C" fn(
        *mut pthread_cond_t,
        *mut pthread_mutex_t,
        clockid_t,
        *const timespec,
    ) -> c_int,
    c: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    clock: clockid_t,
    time: *const timespec,
) -> c_int {
    mutex::before_unseen_release(m);
    // SAFETY: libc's own function, with its caller's arguments.
    unsafe { real(c, m, clock, time) }
}

/// pthread_cond_signal(3), on a fiber and off.
#[inline(always)]
pub fn signal(real: OnCond, c: *mut pthread_cond_t) -> c_int {
    if WAIT_TABLE.get().may_wait(c.addr()) && signal_fiber(c) {
        return 0;
    }
    // SAFETY: libc's own function, with its caller's argument.
    unsafe { real(c) }
}

/// Wakes a fiber; returns whether libc need not be called as well.
#[cold]
fn signal_fiber(c: *mut pthread_cond_t) -> bool {
    // For a shared condition, waiters in other processes are unknown.
    WAIT_TABLE.get().wake_exactly(c.addr(), Which::First) > 0 && flags(c) & SHARED == 0
}

/// pthread_cond_broadcast(3), on a fiber and off.
#[inline(always)]
pub fn broadcast(real: OnCond, c: *mut pthread_cond_t) -> c_int {
    let table = WAIT_TABLE.get();
    if table.may_wait(c.addr()) {
        table.wake_exactly(c.addr(), Which::All);
    }
    // SAFETY: libc's own function, with its caller's argument.
    unsafe { real(c) }
}

const SHARED: u32 = 1;
const MONOTONIC: u32 = 2;

/// The flags that libc keeps of a condition's attributes, [`SHARED`] and [`MONOTONIC`].
fn flags(c: *mut pthread_cond_t) -> u32 {
    let words = c.cast::<AtomicU32>();
    // SAFETY: within the C caller's condition, whose words libc changes atomically.
    unsafe { &*words.add(flags_word()) }.load(Ordering::Relaxed)
}

/// The index of the condition's word that holds the flags. It differs between versions of libc, so
/// it is read from a condition made for this purpose.
fn flags_word() -> usize {
    static FOUND: AtomicU32 = AtomicU32::new(u32::MAX);
    let found = FOUND.load(Ordering::Relaxed);
    if found != u32::MAX {
        return found as usize;
    }
    let mut condition = MaybeUninit::<pthread_cond_t>::zeroed();
    let mut attributes = MaybeUninit::<libc::pthread_condattr_t>::zeroed();
    // SAFETY: both are alive, and initialised before they are used.
    unsafe {
        libc::pthread_condattr_init(attributes.as_mut_ptr());
        libc::pthread_condattr_setclock(attributes.as_mut_ptr(), libc::CLOCK_MONOTONIC);
        libc::pthread_cond_init(condition.as_mut_ptr(), attributes.as_ptr());
    }
    let words = condition.as_ptr().cast::<u32>();
    let all = size_of::<pthread_cond_t>() / size_of::<u32>();
    // SAFETY: within the condition, which was zeroed before libc initialised it.
    let word = (0..all).find(|at| unsafe { *words.add(*at) } & 3 == MONOTONIC);
    let word = word.unwrap_or(9);
    FOUND.store(word as u32, Ordering::Relaxed);
    word
}
