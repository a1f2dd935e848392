//! Mutexes that belong to a thread in the kernel: robust ones, and those that inherit or protect
//! priorities.
//!
//! libc's own functions lock and unlock them, for the worker's thread: when that dies, they are
//! left as any thread's. Between the fibers of one thread libc cannot tell the owner, so where that
//! matters it is written down here.

use super::mutex::{self, of};
use super::{Patience, Wait, Woken, plainly, thread_id};
use crate::call::Call;
use crate::critical::{Mutex, MutexGuard};
use crate::deadlines::{Deadline, NEVER};
use crate::errno::Errno;
use crate::fork::Renewable;
use crate::lot::ANY;
use crate::sys;
use crate::tls::OffFiber;
use libc::pthread_mutex_t;
use std::ffi::c_void;

/// The mutexes, by address, that count their owners, and the fibers that hold them.
static OWNERS: Renewable<Mutex<Vec<(usize, usize)>>> = Renewable::new(Mutex::new(Vec::new()));

/// The owners, held by the forking thread across the fork.
pub type LockedOwners = std::sync::MutexGuard<'static, Vec<(usize, usize)>>;

pub fn lock_before_fork() -> Option<LockedOwners> {
    OWNERS.get().lock_before_fork()
}

/// In the child of a fork: its fiber still has the mutexes it had.
///
/// # Safety
/// As [`Renewable::renew`], but for `locked`.
pub unsafe fn keep(locked: Option<LockedOwners>) {
    let kept = locked.map_or_else(Vec::new, |owners| owners.clone());
    // SAFETY: vouched for by the caller; the guard is gone.
    unsafe { OWNERS.renew(Mutex::new(kept)) };
}

fn owners() -> MutexGuard<'static, Vec<(usize, usize)>> {
    OWNERS.get().lock()
}

/// Whether another fiber of this thread holds it, where libc would take that one for the caller.
fn is_anothers(m: *mut pthread_mutex_t, fiber: *mut c_void) -> bool {
    let mutex = of(m);
    if !mutex.counts_owners() || !mutex.is_owned_by(thread_id()) {
        return false;
    }
    owners()
        .iter()
        .any(|(mutex, owner)| *mutex == m.addr() && *owner != fiber.addr())
}

/// pthread_mutex_trylock(3).
pub fn try_take(call: &Call<'_>, m: *mut pthread_mutex_t) -> Result<(), Errno> {
    if is_anothers(m, call.fiber) {
        return Err(Errno::BUSY);
    }
    let _off = OffFiber::enter();
    // SAFETY: the C caller's.
    let error = unsafe { libc::pthread_mutex_trylock(m) };
    note(call, m, error)
}

/// Writes down who has it now, and turns libc's answer into ours.
fn note(call: &Call<'_>, m: *mut pthread_mutex_t, error: i32) -> Result<(), Errno> {
    if matches!(error, 0 | libc::EOWNERDEAD) && of(m).counts_owners() {
        let mut owners = owners();
        owners.retain(|(mutex, _)| *mutex != m.addr());
        owners.push((m.addr(), call.fiber.addr()));
    }
    if error == 0 {
        Ok(())
    } else {
        Err(Errno(error))
    }
}

/// Locks it, parking as long as another has it. Its thread may die: of a robust one the kernel
/// tells that; of the others, whose waiters the kernel does not let anybody stand in for, only a
/// look can.
pub fn take(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    until: impl Fn() -> Result<Deadline, Errno>,
) -> Result<(), Errno> {
    // The caller's own, which libc knows how to answer.
    let mutex = of(m);
    if mutex.counts_owners() && mutex.is_owned_by(thread_id()) && !is_anothers(m, call.fiber) {
        let _off = OffFiber::enter();
        // SAFETY: the C caller's; it does not wait for itself.
        return note(call, m, unsafe { libc::pthread_mutex_lock(m) });
    }
    let attempt = || {
        if mutex.is_not_recoverable() {
            // libc's try would leave it locked.
            // SAFETY: the C caller's; it does not wait, for its state is final.
            return Some(Err(Errno(plainly(|| unsafe {
                libc::pthread_mutex_lock(m)
            }))));
        }
        match try_take(call, m) {
            Err(Errno::BUSY) => None,
            result => Some(result),
        }
    };
    if let Some(result) = attempt() {
        return result;
    }
    let deadline = until()?;
    if mutex.is_robust()
        && let Some(result) = wait_in_kernel(call, mutex, deadline, attempt)
    {
        return result;
    }
    let mut patience = Patience::new();
    let mut again = false;
    loop {
        let wait = Wait {
            key: m.addr(),
            mark: ANY,
            again,
            deadline: patience.next(deadline),
        };
        let mut got = None;
        let woken = wait.park(call, || {
            got = attempt();
            got.is_some()
        });
        if woken != Woken::Ready {
            got = attempt();
        }
        if let Some(result) = got {
            return result;
        }
        if deadline != NEVER && sys::now() >= deadline {
            return Err(Errno::TIMEDOUT);
        }
        again = true;
    }
}

/// Waits for a robust one in the kernel, which tells of the death of its owner, too. None where
/// nobody can.
fn wait_in_kernel(
    call: &Call<'_>,
    mutex: &mutex::Mutex,
    deadline: Deadline,
    attempt: impl Fn() -> Option<Result<(), Errno>>,
) -> Option<Result<(), Errno>> {
    loop {
        if let Some(result) = attempt() {
            if matches!(result, Ok(()) | Err(Errno(libc::EOWNERDEAD))) {
                mutex.expect_waiters();
            }
            return Some(result);
        }
        // Another fiber of this thread, which libc takes for the caller, may hold it just as well.
        let Some(futex) = mutex.announce_waiter() else {
            continue;
        };
        match futex.wait(call, deadline)? {
            Err(Errno::TIME) => return Some(Err(Errno::TIMEDOUT)),
            Err(Errno::RESTART) => {
                call.interrupted();
            }
            _ => {}
        }
    }
}

/// Before it is unlocked, by `fiber` or, null, by a plain thread: whether it may be. If so it is
/// written down.
pub fn may_unlock(m: *mut pthread_mutex_t, fiber: *mut c_void) -> bool {
    let mutex = of(m);
    if !mutex.counts_owners() || fiber.is_null() {
        return true;
    }
    if is_anothers(m, fiber) {
        return false;
    }
    if mutex.is_owned_by(thread_id()) && mutex.times_locked() <= 1 {
        plainly(|| owners().retain(|(mutex, _)| *mutex != m.addr()));
    }
    true
}
