//! A thread of the pool that waits for a process-shared condition in a fiber's stead: only libc
//! knows how another process's pthread_cond_signal(3) is told that somebody waits.
//!
//! libc does not remember which mutex a condition is waited for with, so the thread uses one of its
//! own: it locks that one, and libc's pthread_cond_wait(3) unlocks it once the thread counts as a
//! waiter. The fiber still has the program's mutex until then, so that no signal is lost.
//!
//! Invariant: the fiber stays until the thread's wait is over. Before it handles signals, in which
//! it may end, it ends that wait by a broadcast, so that the thread takes no signal that is
//! another's. The others look again at what they wait for, as they must anyway.

use super::kernel::of_nanos;
use super::{Wait, mutex, released};
use crate::call::Call;
use crate::deadlines::{Deadline, NEVER};
use crate::engine::{Lane, Names, Run};
use crate::errno::Errno;
use crate::hooks;
use crate::lot::{ANY, Which};
use libc::{pthread_cond_t, pthread_mutex_t};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::*};

/// What the fiber and the thread share.
struct StandIn {
    condition: *mut pthread_cond_t,
    deadline: Deadline,
    /// The thread's own: see the module's text.
    mutex: UnsafeCell<pthread_mutex_t>,
    /// The thread has that one, and is about to wait.
    begun: AtomicBool,
    /// What the thread's wait returned; [`WAITS`] until then.
    result: AtomicI32,
}

const WAITS: c_int = -1;

// SAFETY: the condition is the C caller's, which must exist while somebody waits for it; the mutex
// is only used by libc's functions, which any thread may call.
unsafe impl Send for StandIn {}
// SAFETY: as for Send.
unsafe impl Sync for StandIn {}

impl StandIn {
    /// A wait for what the thread says next.
    fn next(&self) -> Wait {
        Wait {
            key: std::ptr::from_ref(self).addr(),
            mark: ANY,
            again: false,
            deadline: NEVER,
        }
    }

    /// Waits, on a thread of the pool, until the condition is signalled or the time is over.
    fn stand_in(&self) {
        let until = of_nanos(self.deadline);
        // SAFETY: libc's own functions; the mutex is alive, as is the condition (above), and so is
        // the time.
        let error = unsafe {
            hooks::pthread_mutex_lock::real(self.mutex.get());
            self.begun.store(true, Release);
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
        self.result.store(error, Release);
        released(self, Which::First);
    }

    /// Ends the thread's wait, and a wait of all others for nothing.
    fn send_home(&self) {
        // SAFETY: libc's own function, with the C caller's condition.
        unsafe { hooks::pthread_cond_broadcast::real(self.condition) };
    }

    fn result(&self) -> Option<c_int> {
        Some(self.result.load(Acquire)).filter(|result| *result != WAITS)
    }
}

/// Begins the thread's work.
///
/// # Safety
/// `data` is an `Arc<StandIn>`, made into a pointer; it is taken over.
unsafe fn begin(data: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { Arc::from_raw(data.cast_const().cast::<StandIn>()) }.stand_in();
}

/// pthread_cond_wait(3) and its kin. None where there is no thread to be had.
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
        names: Names::Nothing,
        lane: Lane::Peers,
    });
    if !started {
        // SAFETY: made above, and not handed over.
        drop(unsafe { Arc::from_raw(data.cast_const().cast::<StandIn>()) });
        return None;
    }
    while !stand_in.begun.load(Acquire) {
        stand_in.next().park(call, || stand_in.begun.load(Acquire));
    }
    // The thread has its mutex but for the moment until it counts as a waiter.
    // SAFETY: libc's own functions; the mutex is alive.
    unsafe {
        hooks::pthread_mutex_lock::real(stand_in.mutex.get());
        hooks::pthread_mutex_unlock::real(stand_in.mutex.get());
    }
    let given = mutex::give(call, m);
    let mut handlers_wait = false;
    if given.is_err() {
        stand_in.send_home();
    }
    while stand_in.result().is_none() {
        let woken = stand_in
            .next()
            .park_first(call, || stand_in.result().is_some());
        if woken.is_none() {
            handlers_wait = true;
            stand_in.send_home();
        }
    }
    if handlers_wait {
        // The fiber may end in there.
        call.interrupted();
    }
    if let Err(error) = given.and_then(|()| mutex::take(call, m, || Ok(NEVER))) {
        return Some(Err(error));
    }
    Some(match stand_in.result() {
        Some(libc::ETIMEDOUT) => Err(Errno::TIMEDOUT),
        _ => Ok(()),
    })
}
