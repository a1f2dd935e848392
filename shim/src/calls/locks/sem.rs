//! sem_*(3): libc's own try, then the lot; who posts looks there.

use super::{Patience, Wait, Woken, deadline, is_supported, is_valid, plainly, released};
use crate::call::Call;
use crate::calls::Outcome;
use crate::deadlines::{Deadline, NEVER};
use crate::errno::{self, Errno};
use crate::lot::{ANY, Which};
use crate::sys;
use libc::{clockid_t, sem_t, timespec};
use std::ffi::c_int;

/// sem_wait(3).
pub fn wait(call: &Call<'_>, s: *mut sem_t) -> Outcome {
    wait_until(call, s, NEVER)
}

/// sem_timedwait(3).
pub fn timedwait(call: &Call<'_>, s: *mut sem_t, time: *const timespec) -> Outcome {
    clockwait(call, s, libc::CLOCK_REALTIME, time)
}

/// sem_clockwait(3).
pub fn clockwait(call: &Call<'_>, s: *mut sem_t, clock: clockid_t, time: *const timespec) -> Outcome {
    // SAFETY: the C caller's.
    let time = unsafe { &*time };
    if !is_supported(clock) || !is_valid(time) {
        return Outcome::Done(Err(Errno::INVAL));
    }
    wait_until(call, s, deadline(clock, time))
}

/// sem_trywait(3): only lets others run now and then, for who tries in a loop waits for one that may be of the same thread.
pub fn trywait(call: &Call<'_>, s: *mut sem_t) -> Outcome {
    call.inline();
    Outcome::Done(if take(s) { Ok(0) } else { Err(Errno::AGAIN) })
}

/// Takes one if there is one. errno is kept.
fn take(s: *mut sem_t) -> bool {
    let before = errno::get();
    // SAFETY: the C caller's.
    let taken = plainly(|| unsafe { libc::sem_trywait(s) }) == 0;
    errno::set(before);
    taken
}

fn wait_until(call: &Call<'_>, s: *mut sem_t, deadline: Deadline) -> Outcome {
    if take(s) {
        call.inline();
        return Outcome::Done(Ok(0));
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

/// sem_post(3), on a fiber and off, in a signal handler too.
#[inline(always)]
pub fn post(real: unsafe extern "C" fn(*mut sem_t) -> c_int, s: *mut sem_t) -> c_int {
    // SAFETY: libc's own function, with its caller's argument.
    let result = unsafe { real(s) };
    released(s, Which::First);
    result
}

/// Whether other processes may use it: libc keeps that behind the value and the number of its waiters.
fn is_shared(s: *mut sem_t) -> bool {
    // SAFETY: within the C caller's semaphore; only changed by sem_init(3).
    unsafe { *s.cast::<i32>().add(2) != 0 }
}
