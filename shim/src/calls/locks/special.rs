//! Mutexes whose owner the kernel knows as a thread: robust mutexes, and those with priority
//! inheritance or priority protection.
//!
//! libc's own functions lock and unlock them on behalf of the worker thread. When that thread dies,
//! they are in the same state as any dead thread's. libc cannot tell the fibers of one thread
//! apart, so where the owner matters it is recorded here.

use super::mutex::{self, of};
use super::{Wait, WaitBackoff, thread_id};
use crate::context::{self, Mutex, MutexGuard};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::state::fork_reset::ForkReset;
use libc::pthread_mutex_t;
use queue::wait_table::ANY;
use std::ffi::c_void;
use sys::errno::Errno;

/// The locked mutexes that record an owner, by address, each with the fiber that holds it.
static OWNERS: ForkReset<Mutex<Vec<(usize, usize)>>> = ForkReset::new(Mutex::new(Vec::new()));

/// The guard of the owners, which the forking thread holds across the fork.
pub type LockedOwners = std::sync::MutexGuard<'static, Vec<(usize, usize)>>;

pub fn lock_before_fork() -> Option<LockedOwners> {
    OWNERS.get().lock_before_fork()
}

/// In the child of a fork: the surviving fiber still holds the mutexes it held in the parent.
///
/// # Safety
/// The requirements of [`ForkReset::replace`], except that the caller holds `locked` apply.
pub unsafe fn keep(locked: Option<LockedOwners>) {
    let kept = locked.map_or_else(Vec::new, |owners| owners.clone());
    // SAFETY: the caller meets the contract of `renew`, and the guard was dropped above.
    unsafe { OWNERS.replace(Mutex::new(kept)) };
}

fn owners() -> MutexGuard<'static, Vec<(usize, usize)>> {
    OWNERS.get().lock()
}

/// Whether another fiber of this thread holds the mutex. libc would take that fiber for the caller.
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
    let _off = context::libc();
    // SAFETY: the C caller passes a valid mutex.
    let error = unsafe { libc::pthread_mutex_trylock(m) };
    note(call, m, error)
}

/// Records the new owner, and converts libc's result into ours.
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

/// Locks it, parking while another owner has it. The owner's thread may die. For a robust mutex the
/// kernel announces that. For the other kinds the kernel accepts no substitute for the waiting
/// thread, so the fiber has to retry periodically.
pub fn take(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    until: impl Fn() -> Result<Deadline, Errno>,
) -> Result<(), Errno> {
    // The caller already holds it, and libc knows the right answer.
    let mutex = of(m);
    if mutex.counts_owners() && mutex.is_owned_by(thread_id()) && !is_anothers(m, call.fiber) {
        let _off = context::libc();
        // SAFETY: the C caller passes a valid mutex; libc does not block on a mutex that the thread
        // owns.
        return note(call, m, unsafe { libc::pthread_mutex_lock(m) });
    }
    let attempt = || {
        if mutex.is_not_recoverable() {
            // libc's try function would leave it locked.
            // SAFETY: the C caller passes a valid mutex; this does not block, because its state is
            // final.
            return Some(Err(Errno(context::in_libc(|| unsafe {
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
    let mut backoff = WaitBackoff::new();
    let mut again = false;
    loop {
        let wait = Wait {
            key: m.addr(),
            mark: ANY,
            again,
            deadline: backoff.next(deadline),
        };
        if let Some(result) = wait.attempt(call, attempt) {
            return result;
        }
        if deadline != NEVER && sys::now() >= deadline {
            return Err(Errno::TIMEDOUT);
        }
        again = true;
    }
}

/// Waits for a robust mutex in the kernel, which also announces the death of its owner. Returns
/// None if neither the engine nor the pool can wait for it.
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
        // The owner may be another fiber of this thread, which libc takes for the caller.
        let Some(futex) = mutex.announce_waiter() else {
            continue;
        };
        match futex.wait(call, deadline) {
            Ok(()) | Err(Unfinished::Failed(_)) => {}
            Err(Unfinished::NotDone) => return None,
            Err(Unfinished::TimedOut) => return Some(Err(Errno::TIMEDOUT)),
            Err(Unfinished::Interrupted) => {
                call.interrupted();
            }
        }
    }
}

/// Called before `fiber` unlocks the mutex, or before a plain thread does (`fiber` is null):
/// returns whether it may. If so, the owner's record is removed.
pub fn may_unlock(m: *mut pthread_mutex_t, fiber: *mut c_void) -> bool {
    let mutex = of(m);
    if !mutex.counts_owners() || fiber.is_null() {
        return true;
    }
    if is_anothers(m, fiber) {
        return false;
    }
    if mutex.is_owned_by(thread_id()) && mutex.times_locked() <= 1 {
        context::in_libc(|| owners().retain(|(mutex, _)| *mutex != m.addr()));
    }
    true
}
