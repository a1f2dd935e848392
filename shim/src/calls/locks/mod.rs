//! The program's locks, and other waits on memory: a fiber that would block its thread parks in the
//! wait queues of the [`WaitTable`].
//!
//! The locks remain libc's objects. Plain threads use them through libc's functions and fibers
//! through these, and each sees the other's changes. All locks follow one rule: the fiber tries as
//! libc does; if it would have to wait, it queues up, tries again, and parks. Every release, on a
//! fiber or off, checks the queue afterwards, which costs one load if no fiber waits.
//!
//! Some releases are not noticed: those by another process, and those that libc makes inside
//! pthread_cond_wait(3). A fiber that waits for such a lock also checks it at growing intervals
//! ([`WaitBackoff`]).

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

use super::Verdict;
use crate::engine::Request;
use crate::host::remote::{Node, Parked};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::Deadline;
use crate::runtime::operation::Operation;
use crate::runtime::restart::Restart;
use crate::runtime::thread::wake_here;
use queue::WaitTable;
use queue::wait_table::Which;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use sys::errno::Errno;

pub use special::{LockedOwners, keep as keep_owners, lock_before_fork as lock_owners_before_fork};

fork_reset! {
    /// In the child the fibers that waited do not exist.
    static WAIT_TABLE: WaitTable<Parked> = WaitTable::new();
}

/// Looks up the symbols that locks need, before any lock is used.
pub fn bind() {
    mutex::bind();
    join::bind();
}

/// The reason why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// No wait was needed: the condition held already.
    Ready,
    /// A waker reported that the condition may hold now.
    ByWaker,
    Timeout,
    /// A signal handler ran that was installed without SA_RESTART.
    Interrupted,
}

/// A wait: on which key, for which mark, and for how long.
pub struct Wait {
    pub key: usize,
    pub mark: u32,
    /// The waiter was woken spuriously before, and is queued first.
    pub again: bool,
    pub deadline: Deadline,
}

impl Wait {
    /// Queues up, and parks unless `ready` returns true. Runs deferred handlers.
    pub fn park(&self, call: &Call<'_>, ready: impl FnMut() -> bool) -> Woken {
        match self.park_first(call, ready) {
            Some(woken) => woken,
            None if !call.continue_after_handlers(Restart::IfHandlersAllow) => Woken::Interrupted,
            // Handlers ran, so the caller checks its condition again.
            None => Woken::ByWaker,
        }
    }

    /// Parks unless `attempt` has a result, and attempts again once the fiber is woken.
    pub fn attempt<R>(&self, call: &Call<'_>, mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
        let mut result = None;
        let woken = self.park(call, || {
            result = attempt();
            result.is_some()
        });
        if woken == Woken::Ready {
            result
        } else {
            attempt()
        }
    }

    /// Like [`Self::park`], for callers that must undo something before handlers run, because a
    /// handler may not return. Returns None if handlers are due; the caller then calls
    /// [`Call::interrupted`].
    pub fn park_first(&self, call: &Call<'_>, mut ready: impl FnMut() -> bool) -> Option<Woken> {
        call.timed(|row| {
            let thread = call.thread;
            let node = Node::new(
                self.key,
                self.mark,
                Parked {
                    token: 0,
                    thread: std::ptr::from_ref(thread).cast(),
                    wake_here,
                    remote: std::ptr::from_ref::<Arc<_>>(thread.remote()),
                },
            );
            let mut node = std::pin::pin!(node);
            let claim = std::ptr::from_ref(node.claim());
            let request = Request::Wait { claim };
            let mut operation = Operation::new(call.fiber, row, &request, self.deadline);
            let operation = &raw mut operation;
            // SAFETY: the operation is on this stack, and from here on only accessed through the
            // pointer.
            let token = unsafe { thread.begin_wait(operation) };
            // SAFETY: the node is not moved.
            unsafe { node.as_mut().get_unchecked_mut() }.fiber.token = token;
            let node = node.into_ref();
            // SAFETY: the node stays in place until it is woken, or its wait is cancelled, below.
            unsafe { WAIT_TABLE.get().enqueue(&node, self.again) };
            let is_ready = ready();
            if is_ready && WAIT_TABLE.get().cancel_wait(&node) {
                thread.cancel_wait(token);
                return Some(Woken::Ready);
            }
            thread.park_until_woken();
            // SAFETY: the operation is on this stack.
            let woken = unsafe { (*operation).completion.decode() };
            if woken.is_err() {
                // The claim did not go to a waker, so the node is still queued.
                WAIT_TABLE.get().cancel_wait(&node);
            }
            Some(match woken {
                _ if is_ready => Woken::Ready,
                Ok(_) => Woken::ByWaker,
                Err(Unfinished::Interrupted) => return None,
                Err(_) => Woken::Timeout,
            })
        })
    }
}

/// A full barrier after the atomic change of a lock that ends a wait. The change is a read and a
/// write in one, which on x86-64 is a full barrier itself; a plain store is none, and the waiter
/// could be missed.
#[inline(always)]
fn barrier_behind_change() {
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// Wakes the fibers that wait for a lock, after it was changed so that they may continue.
#[inline(always)]
pub fn released<T>(lock: *const T, which: Which) {
    barrier_behind_change();
    let key = lock.addr();
    if WAIT_TABLE.get().may_wait(key) {
        match which {
            Which::First => wake_first(key),
            Which::FirstOrShared => wake_first_or_shared(key),
            which => WAIT_TABLE.get().wake(key, which),
        }
    }
}

/// A function of its own, like the next one, so that the release itself needs no stack frame.
#[cold]
#[inline(never)]
fn wake_first(key: usize) {
    WAIT_TABLE.get().wake(key, Which::First);
}

#[cold]
#[inline(never)]
fn wake_first_or_shared(key: usize) {
    WAIT_TABLE.get().wake(key, Which::FirstOrShared);
}

/// Backoff between checks for a release that was not noticed: the interval doubles up to a limit.
pub struct WaitBackoff(u64);

impl WaitBackoff {
    const FIRST: u64 = 50_000;
    const MAX: u64 = 8_000_000;

    pub const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The deadline of the next wait, not later than `deadline`.
    pub fn next(&mut self, deadline: Deadline) -> Deadline {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::MAX);
        deadline.min(sys::now() + wait)
    }

    /// The deadline of a wait of the longest interval, not later than `deadline`.
    pub fn longest(deadline: Deadline) -> Deadline {
        deadline.min(sys::now() + Self::MAX)
    }
}

/// Converts a result to the error number that a pthread function returns.
pub fn code(result: Result<(), Errno>) -> Verdict {
    Verdict::Done(result.map_or_else(|error| error.0 as isize, |()| 0))
}

/// Whether the nanoseconds of a time are in range.
pub fn is_valid(time: &libc::timespec) -> bool {
    (0..1_000_000_000).contains(&time.tv_nsec)
}

/// Whether waits can be limited by `clock`.
pub fn is_supported(clock: libc::clockid_t) -> bool {
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC)
}

/// Converts an absolute time to a deadline. The time must be valid and `clock` supported. Later
/// changes of the clock have no effect.
pub fn deadline(clock: libc::clockid_t, time: &libc::timespec) -> Deadline {
    sys::deadline_of(clock, time)
}

/// The kernel's id of this thread, as libc stores it in its locks.
fn thread_id() -> c_int {
    rustix::thread::gettid().as_raw_nonzero().get()
}
