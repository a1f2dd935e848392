//! pthread_rwlock_*(3): a fiber uses libc's try functions, then parks in the wait queue. Every
//! unlock checks that queue.
//!
//! libc does not know about fibers that wait to write, so a lock that prefers writers does not
//! prefer them.

use super::{Wait, WaitBackoff, code, deadline, is_supported, is_valid, released, thread_id};
use crate::calls::Verdict;
use crate::calls::via::offload;
use crate::context;
use crate::hooks;
use crate::runtime::call::Call;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::thread::Thread;
use libc::{clockid_t, pthread_rwlock_t, timespec};
use queue::wait_table::{self, Which};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering::*};
use sys::errno::Errno;

/// libc's `struct __pthread_rwlock_arch_t` on 64-bit machines since glibc 2.25.
#[repr(C)]
struct Lock {
    /// The number of readers times [`ONE_READER`], plus flags for every other state.
    readers: AtomicU32,
    _counts: [u32; 5],
    /// The id of the thread that holds it to write.
    writer: AtomicI32,
    shared: c_int,
    _elision: u64,
    /// Unused by libc. Here: which fiber of that thread holds it.
    fiber: AtomicPtr<c_void>,
    _flags: u64,
}

const ONE_READER: u32 = 8;
/// A writer holds it or held it last, or readers wait for a writer.
const FLAGS: u32 = ONE_READER - 1;

const _: () = assert!(size_of::<Lock>() == size_of::<pthread_rwlock_t>());

fn of<'a>(l: *mut pthread_rwlock_t) -> &'a Lock {
    // SAFETY: the C caller passes an initialised lock that stays alive during the call; the layouts
    // are the same.
    unsafe { &*l.cast::<Lock>() }
}

/// The mode in which a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LockMode {
    Read,
    Write,
}

impl LockMode {
    /// Calls libc's try function: EBUSY if the lock is not free.
    fn attempt(self, call: &Call<'_>, l: *mut pthread_rwlock_t) -> c_int {
        // SAFETY: the C caller passes a valid lock.
        let error = context::in_libc(|| unsafe {
            match self {
                Self::Read => libc::pthread_rwlock_tryrdlock(l),
                Self::Write => libc::pthread_rwlock_trywrlock(l),
            }
        });
        if error == 0 && self == Self::Write {
            of(l).fiber.store(call.fiber, Relaxed);
        }
        error
    }

    fn mark(self) -> u32 {
        match self {
            Self::Read => wait_table::SHARED,
            Self::Write => wait_table::EXCLUSIVE,
        }
    }
}

/// The fast path: takes a lock that only readers have used recently.
#[inline(always)]
pub fn rdlock_fast(_: &Thread, l: *mut pthread_rwlock_t) -> Option<c_int> {
    let readers = &of(l).readers;
    let before = readers.load(Relaxed);
    let free = before & FLAGS == 0 && before < u32::MAX / 2;
    let got = free
        && readers
            .compare_exchange(before, before + ONE_READER, Acquire, Relaxed)
            .is_ok();
    got.then_some(0)
}

/// The fast path for writing.
#[inline(always)]
pub fn wrlock_fast(thread: &Thread, l: *mut pthread_rwlock_t) -> Option<c_int> {
    let fiber = thread.host().running();
    // SAFETY: libc's own function, which does not wait, on the C caller's valid lock.
    let got = !fiber.is_null() && unsafe { hooks::pthread_rwlock_trywrlock::real(l) } == 0;
    got.then(|| {
        of(l).fiber.store(fiber, Relaxed);
        0
    })
}

pub fn rdlock(call: &Call<'_>, l: *mut pthread_rwlock_t) -> Verdict {
    code(lock(call, l, LockMode::Read, NEVER))
}

pub fn wrlock(call: &Call<'_>, l: *mut pthread_rwlock_t) -> Verdict {
    code(lock(call, l, LockMode::Write, NEVER))
}

pub fn tryrdlock(call: &Call<'_>, l: *mut pthread_rwlock_t) -> Verdict {
    attempt(call, l, LockMode::Read)
}

pub fn trywrlock(call: &Call<'_>, l: *mut pthread_rwlock_t) -> Verdict {
    attempt(call, l, LockMode::Write)
}

/// One attempt. If it fails, the call counts against the fiber's quantum, because the holder may be
/// a fiber of the same thread.
fn attempt(call: &Call<'_>, l: *mut pthread_rwlock_t, mode: LockMode) -> Verdict {
    call.inline();
    let error = mode.attempt(call, l);
    if error == libc::EBUSY {
        call.yield_if_exhausted();
    }
    Verdict::Done(error as isize)
}

/// pthread_rwlock_unlock(3), on a fiber and off.
#[inline(always)]
pub fn unlock(
    real: unsafe extern "C" fn(*mut pthread_rwlock_t) -> c_int,
    l: *mut pthread_rwlock_t,
) -> c_int {
    let readers = &of(l).readers;
    let before = readers.load(Relaxed);
    // No writer is waiting for the last reader to leave.
    if before & FLAGS == 0
        && before >= ONE_READER
        && readers
            .compare_exchange(before, before - ONE_READER, Release, Relaxed)
            .is_ok()
    {
        released(l, Which::FirstOrShared);
        return 0;
    }
    unlock_other(real, l)
}

/// A function of its own, so that the fast path needs no stack frame.
#[inline(never)]
fn unlock_other(
    real: unsafe extern "C" fn(*mut pthread_rwlock_t) -> c_int,
    l: *mut pthread_rwlock_t,
) -> c_int {
    // SAFETY: libc's own function, with its caller's argument.
    let error = unsafe { real(l) };
    released(l, Which::FirstOrShared);
    error
}

pub fn timedrdlock(call: &Call<'_>, l: *mut pthread_rwlock_t, time: *const timespec) -> Verdict {
    timed(call, l, LockMode::Read, libc::CLOCK_REALTIME, time)
}

pub fn timedwrlock(call: &Call<'_>, l: *mut pthread_rwlock_t, time: *const timespec) -> Verdict {
    timed(call, l, LockMode::Write, libc::CLOCK_REALTIME, time)
}

pub fn clockrdlock(
    call: &Call<'_>,
    l: *mut pthread_rwlock_t,
    clock: clockid_t,
    time: *const timespec,
) -> Verdict {
    timed(call, l, LockMode::Read, clock, time)
}

pub fn clockwrlock(
    call: &Call<'_>,
    l: *mut pthread_rwlock_t,
    clock: clockid_t,
    time: *const timespec,
) -> Verdict {
    timed(call, l, LockMode::Write, clock, time)
}

fn timed(
    call: &Call<'_>,
    l: *mut pthread_rwlock_t,
    mode: LockMode,
    clock: clockid_t,
    time: *const timespec,
) -> Verdict {
    // SAFETY: the C caller passes a valid time.
    let time = unsafe { &*time };
    if !is_supported(clock) || !is_valid(time) {
        return code(Err(Errno::INVAL));
    }
    code(lock(call, l, mode, deadline(clock, time)))
}

fn lock(
    call: &Call<'_>,
    l: *mut pthread_rwlock_t,
    mode: LockMode,
    deadline: Deadline,
) -> Result<(), Errno> {
    let attempt = || match mode.attempt(call, l) {
        0 => Some(Ok(())),
        libc::EBUSY => None,
        error => Some(Err(Errno(error))),
    };
    if let Some(result) = attempt() {
        call.inline();
        return result;
    }
    let lock = of(l);
    if lock.writer.load(Relaxed) == thread_id() && lock.fiber.load(Relaxed) == call.fiber {
        return Err(Errno::DEADLK);
    }
    if lock.shared != 0
        && let Some(result) = lock_on_pool(call, l, mode, deadline)
    {
        return result;
    }
    let mut backoff = WaitBackoff::new();
    let mut again = false;
    loop {
        let wait = Wait {
            key: l.addr(),
            mark: mode.mark(),
            again,
            // Releases by another process are not noticed, so look again periodically.
            deadline: if lock.shared != 0 {
                backoff.next(deadline)
            } else {
                deadline
            },
        };
        if let Some(result) = wait.attempt(call, attempt) {
            return result;
        }
        if deadline != NEVER && sys::now() >= deadline {
            // This fiber may have been woken to take the lock. As it gives up, it passes the
            // wake-up on.
            released(l, Which::FirstOrShared);
            return Err(Errno::TIMEDOUT);
        }
        again = true;
    }
}

/// Waits on a pool thread for a lock that another process holds, because only libc knows how to
/// announce a waiter to the holder. The lock then belongs to the fiber's thread in libc's records.
/// Returns None if no pool thread is available.
fn lock_on_pool(
    call: &Call<'_>,
    l: *mut pthread_rwlock_t,
    mode: LockMode,
    deadline: Deadline,
) -> Option<Result<(), Errno>> {
    let (until, clock) = (sys::timespec_of(deadline), libc::CLOCK_MONOTONIC);
    // SAFETY: libc's own functions, on the C caller's lock, during its call; the time stays alive.
    let error = offload::run(call, || unsafe {
        match (mode, deadline) {
            (LockMode::Read, NEVER) => hooks::pthread_rwlock_rdlock::real(l),
            (LockMode::Write, NEVER) => hooks::pthread_rwlock_wrlock::real(l),
            (LockMode::Read, _) => hooks::pthread_rwlock_clockrdlock::real(l, clock, &until),
            (LockMode::Write, _) => hooks::pthread_rwlock_clockwrlock::real(l, clock, &until),
        }
    })?;
    if error != 0 {
        return Some(Err(Errno(error)));
    }
    if mode == LockMode::Write {
        of(l).writer.store(thread_id(), Relaxed);
        of(l).fiber.store(call.fiber, Relaxed);
    }
    Some(Ok(()))
}
