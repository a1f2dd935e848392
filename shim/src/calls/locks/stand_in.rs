//! A pool thread waits for a process-shared condition on behalf of a fiber, because only libc knows
//! how to announce a waiter to another process's pthread_cond_signal(3).
//!
//! libc does not remember which mutex a condition is waited for with, so the thread uses a mutex of
//! its own. It locks that mutex, and libc's pthread_cond_wait(3) unlocks it once the thread counts
//! as a waiter. The fiber keeps the program's mutex until then, so that no signal is lost.
//!
//! Invariant: the fiber waits until the thread's wait is over. Signal handlers and a cancellation
//! may end the fiber, so before that it ends the thread's wait with a broadcast. Otherwise the
//! thread could consume a signal meant for another waiter. The other waiters check their predicate
//! again, as they must after any wake-up.

use super::{Wait, mutex, released};
use crate::engine::{FdPin, Lane, Run};
use crate::hooks;
use crate::runtime::call::Call;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::in_flight::InFlight;
use libc::{pthread_cond_t, pthread_mutex_t};
use queue::wait_table::{ANY, Which};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::*};
use sys::errno::Errno;

/// State shared by the fiber and the pool thread.
struct StandIn {
    condition: *mut pthread_cond_t,
    deadline: Deadline,
    /// The pool thread's own mutex: see the module documentation.
    mutex: UnsafeCell<pthread_mutex_t>,
    /// The thread has locked that mutex and is about to wait.
    begun: AtomicBool,
    /// The result of the thread's wait, or [`WAITS`] until then.
    result: AtomicI32,
}

const WAITS: c_int = -1;

// SAFETY: the C caller must keep the condition alive while anyone waits for it. The mutex is only
// used through libc's functions, which any thread may call.
unsafe impl Send for StandIn {}
// SAFETY: the argument for Send covers shared use too: all access goes through libc or atomics.
unsafe impl Sync for StandIn {}

impl StandIn {
    /// A wait for the thread's next notification.
    fn next(&self) -> Wait {
        Wait {
            key: std::ptr::from_ref(self).addr(),
            mark: ANY,
            again: false,
            deadline: NEVER,
        }
    }

    /// Runs on a pool thread: waits until the condition is signalled or the deadline has passed.
    fn stand_in(&self) {
        let until = sys::timespec_of(self.deadline);
        // SAFETY: libc's own functions; the Arc keeps the mutex alive, the C caller keeps the
        // condition alive, and the time is on this stack.
        let error = unsafe {
            hooks::pthread_mutex_lock::real(self.mutex.get());
            // Swaps are full barriers: see `released`.
            self.begun.swap(true, AcqRel);
            released(self, Which::First);
            let error = match self.deadline {
                NEVER => hooks::pthread_cond_wait::real(self.condition, self.mutex.get()),
                _ => hooks::pthread_cond_clockwait::real(
                    self.condition,
                    self.mutex.get(),
                    libc::CLOCK_MONOTONIC,
                    &until,
                ),
            };
            hooks::pthread_mutex_unlock::real(self.mutex.get());
            error
        };
        self.result.swap(error, AcqRel);
        released(self, Which::First);
    }

    /// Ends the thread's wait. All other waiters get a spurious wake-up.
    fn send_home(&self) {
        // SAFETY: libc's own function, with the C caller's condition.
        unsafe { hooks::pthread_cond_broadcast::real(self.condition) };
    }

    fn result(&self) -> Option<c_int> {
        Some(self.result.load(Acquire)).filter(|result| *result != WAITS)
    }
}

/// Exists while a fiber waits for its pool thread, which another process can wake: the fiber is not
/// in a deadlock.
struct WaitsForThread<'a>(&'a InFlight);

impl<'a> WaitsForThread<'a> {
    fn begin(call: &'a Call<'_>) -> Self {
        let operations = call.thread.operations();
        operations.begin_function_wait();
        Self(operations)
    }
}

impl Drop for WaitsForThread<'_> {
    fn drop(&mut self) {
        self.0.end_function_wait();
    }
}

/// Runs the thread's part.
///
/// # Safety
/// `data` is an `Arc<StandIn>` turned into a pointer; this takes ownership of it.
unsafe fn begin(data: *mut c_void) {
    // SAFETY: the caller guarantees that `data` came from `Arc::into_raw`.
    unsafe { Arc::from_raw(data.cast_const().cast::<StandIn>()) }.stand_in();
}

/// pthread_cond_wait(3) and its variants. Returns None if no pool thread is available.
pub fn wait(
    call: &Call<'_>,
    condition: *mut pthread_cond_t,
    m: *mut pthread_mutex_t,
    deadline: Deadline,
) -> Option<Result<(), Errno>> {
    if !call.has_engine() {
        return None;
    }
    let stand_in = Arc::new(StandIn {
        condition,
        deadline,
        mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
        begun: AtomicBool::new(false),
        result: AtomicI32::new(WAITS),
    });
    let data = Arc::into_raw(Arc::clone(&stand_in)).cast_mut().cast();
    let started = call.start_on_pool(Run {
        code: begin,
        data,
        pin: FdPin::None,
        lane: Lane::Peers,
    });
    if !started {
        // SAFETY: `data` was made above, and no thread took it.
        drop(unsafe { Arc::from_raw(data.cast_const().cast::<StandIn>()) });
        return None;
    }
    let waiting = WaitsForThread::begin(call);
    let mut interrupted = false;
    call.as_row(mutex::LOCK, || {
        let begun = || stand_in.begun.load(Acquire);
        while !begun() {
            interrupted |= stand_in.next().park_first(call, begun).is_none();
        }
    });
    // The thread holds its mutex until it counts as a waiter, so locking the mutex waits for that.
    // SAFETY: libc's own functions; `stand_in` keeps the mutex alive.
    unsafe {
        hooks::pthread_mutex_lock::real(stand_in.mutex.get());
        hooks::pthread_mutex_unlock::real(stand_in.mutex.get());
    }
    let given = mutex::give(call, m);
    let has_result = || stand_in.result().is_some();
    let mut sent_home = interrupted || given.is_err();
    while !sent_home && !has_result() {
        sent_home = stand_in.next().park_first(call, has_result).is_none();
        interrupted |= sent_home;
    }
    if sent_home {
        stand_in.send_home();
    }
    call.as_row(mutex::LOCK, || {
        while !has_result() {
            interrupted |= stand_in.next().park_first(call, has_result).is_none();
        }
    });
    drop(waiting);
    // The fiber may end inside this.
    if let Err(error) = given.and_then(|()| mutex::take_after_wait(call, m, interrupted)) {
        return Some(Err(error));
    }
    Some(match stand_in.result() {
        Some(libc::ETIMEDOUT) => Err(Errno::TIMEDOUT),
        _ => Ok(()),
    })
}
