//! Locks of the program's, and what else waits in memory: a fiber that would block its thread parks
//! in the [`lot`](crate::lot).
//!
//! The locks stay libc's objects: plain threads use them through libc's functions, fibers through
//! these, and each sees what the other did. One rule for all: the fiber tries as libc does, and if
//! it would have to wait queues up in the lot, tries again, and parks. Whoever releases a lock, on
//! a fiber or off, looks into the lot afterwards: one load where nobody waits.
//!
//! Some releases are not seen: another process's, and those that libc makes inside
//! pthread_cond_wait(3). Who waits for one that may be such looks again by itself, at growing
//! intervals ([`Patience`]).

pub mod barrier;
pub mod c11;
pub mod cond;
pub mod futex;
pub mod join;
mod kernel;
pub mod mutex;
pub mod once;
pub mod rwlock;
pub mod sem;
mod special;
pub mod spin;
mod stand_in;

use super::Outcome;
use crate::call::Call;
use crate::deadlines::Deadline;
use crate::engine::Request;
use crate::errno::Errno;
use crate::flight::Flight;
use crate::fork::Renewable;
use crate::lot::{Lot, Which};
use crate::remote::{Node, Parked};
use crate::signal::Handled;
use crate::sys;
use crate::tls::OffFiber;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use special::{LockedOwners, keep as keep_owners, lock_before_fork as lock_owners_before_fork};

static LOT: Renewable<Lot<Parked>> = Renewable::new(Lot::new());

/// In the child of a fork: the fibers that waited do not exist there.
///
/// # Safety
/// As [`Renewable::renew`].
pub unsafe fn renew() {
    // SAFETY: vouched for by the caller.
    unsafe { LOT.renew(Lot::new()) };
    once::renew();
}

/// Looks up what locks need, before any of them is used in a hurry.
pub fn bind() {
    mutex::bind();
    join::bind();
}

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// It was not needed: there was no more to wait for.
    Ready,
    /// Somebody said that there may be no more to wait for.
    Landed,
    Timeout,
    /// A signal's handler ran that was installed without SA_RESTART.
    Interrupted,
}

/// Who waits, for what, and for how long.
pub struct Wait {
    pub key: usize,
    pub mark: u32,
    /// It was woken before, for nothing: it comes first.
    pub again: bool,
    pub deadline: Deadline,
}

impl Wait {
    /// Queues up, and parks unless `ready` says that there is nothing to wait for any more. Runs
    /// the handlers that wait.
    pub fn park(&self, call: &Call<'_>, ready: impl FnMut() -> bool) -> Woken {
        match self.park_first(call, ready) {
            Some(woken) => woken,
            None if call.interrupted() == Handled::End => Woken::Interrupted,
            // Handlers ran, and whoever waits looks again.
            None => Woken::Landed,
        }
    }

    /// The same for one who has to undo something before handlers run, which may not return: None
    /// when they wait ([`Call::interrupted`]).
    pub fn park_first(&self, call: &Call<'_>, mut ready: impl FnMut() -> bool) -> Option<Woken> {
        call.timed(|row| {
            let thread = call.thread;
            let node = Node::new(
                self.key,
                self.mark,
                Parked {
                    token: 0,
                    thread,
                    remote: std::ptr::from_ref::<Arc<_>>(thread.remote()),
                },
            );
            let mut node = std::pin::pin!(node);
            let claim = std::ptr::from_ref(node.claim());
            let request = Request::Wait { claim };
            let mut flight = Flight::new(call.fiber, row, &request, self.deadline);
            let flight = &raw mut flight;
            // SAFETY: the flight is on this stack, and only touched through the pointer from here
            // on.
            let token = unsafe { thread.begin_wait(flight) };
            // SAFETY: it is not moved.
            unsafe { node.as_mut().get_unchecked_mut() }.fiber.token = token;
            let node = node.into_ref();
            // SAFETY: it stays where it is until it is withdrawn, or landed, below.
            unsafe { LOT.get().enqueue(&node, self.again) };
            let is_ready = ready();
            if is_ready && LOT.get().withdraw(&node) {
                thread.forgo(token);
                return Some(Woken::Ready);
            }
            thread.await_landing();
            // SAFETY: on this stack.
            let result = unsafe { (*flight).result };
            if result != 0 {
                // Its claim was not a waker's, so it is in the lot.
                LOT.get().withdraw(&node);
            }
            Some(match Errno::of(result) {
                _ if is_ready => Woken::Ready,
                Errno(0) => Woken::Landed,
                Errno::RESTART => return None,
                _ => Woken::Timeout,
            })
        })
    }
}

/// A full barrier behind an atomic change of a lock, which is one itself where all such changes
/// are.
#[inline(always)]
fn barrier_behind_change() {
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// After a lock was changed so that others may go on: wakes the fibers that wait for it.
#[inline(always)]
pub fn released<T>(lock: *const T, which: Which) {
    barrier_behind_change();
    let key = lock.addr();
    if LOT.get().may_wait(key) {
        match which {
            Which::First => wake_first(key),
            Which::Turn => wake_turn(key),
            which => LOT.get().wake(key, which),
        }
    }
}

/// Apart, as the next, so that the release itself needs no stack frame.
#[cold]
#[inline(never)]
fn wake_first(key: usize) {
    LOT.get().wake(key, Which::First);
}

#[cold]
#[inline(never)]
fn wake_turn(key: usize) {
    LOT.get().wake(key, Which::Turn);
}

/// How long to wait before looking whether a release came that nobody saw: longer each time.
pub struct Patience(u64);

impl Patience {
    const FIRST: u64 = 50_000;
    const MOST: u64 = 8_000_000;

    pub const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The deadline of the next wait, `deadline` at the latest.
    pub fn next(&mut self, deadline: Deadline) -> Deadline {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::MOST);
        deadline.min(sys::now() + wait)
    }

    /// The deadline of a wait of full length.
    pub fn longest(deadline: Deadline) -> Deadline {
        deadline.min(sys::now() + Self::MOST)
    }
}

/// Runs one of libc's own functions, which does not wait, past our hooks.
pub fn plainly<R>(function: impl FnOnce() -> R) -> R {
    let _off = OffFiber::enter();
    function()
}

/// The error number that a pthread function returns.
pub fn code(result: Result<(), Errno>) -> Outcome {
    Outcome::Done(Ok(result.map_or_else(|error| error.0 as isize, |()| 0)))
}

/// Whether a time has as many nanoseconds as it may.
pub fn is_valid(time: &libc::timespec) -> bool {
    (0..1_000_000_000).contains(&time.tv_nsec)
}

/// Whether waits can be limited by `clock`.
pub fn is_supported(clock: libc::clockid_t) -> bool {
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC)
}

/// An absolute time as a deadline; it is valid, and `clock` supported. A clock that is set
/// meanwhile is not followed.
pub fn deadline(clock: libc::clockid_t, time: &libc::timespec) -> Deadline {
    sys::deadline_of(
        clock,
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec),
    )
}

/// The kernel's number of this thread, as libc has it in its locks.
fn thread_id() -> c_int {
    rustix::thread::gettid().as_raw_nonzero().get()
}
