//! Waits in the kernel's own futex queues, for releases that no hook sees: by another process, by
//! the kernel when a thread dies, or inside libc.
//!
//! io_uring waits there on behalf of a parked fiber (Linux 6.7). With another engine, a pool thread
//! waits if the futex is shared between processes. For a private futex there is no such wait, and
//! the caller checks the lock periodically.
//!
//! Invariant: before another fiber of the thread runs, either the wait is in the kernel's queue or
//! the value was found changed. A later waker therefore finds the waiter as it would find a thread.

use crate::engine::{FdPin, KernelCall, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::{Completion, Unfinished};
use crate::runtime::deadlines::{Deadline, NEVER};
use std::sync::atomic::AtomicU32;
use sys::Sysno;
use sys::errno::Errno;

/// A futex, and the value it must have for a wait on it to begin.
#[derive(Clone, Copy)]
pub struct Futex {
    pub address: usize,
    pub value: u32,
    /// The wake-ups that this wait accepts, as FUTEX_WAIT_BITSET's mask.
    pub mask: u32,
    pub is_shared: bool,
}

/// FUTEX_BITSET_MATCH_ANY
pub const ALL: u32 = u32::MAX;

/// FUTEX2_SIZE_U32 and FUTEX2_PRIVATE.
pub const SIZE_U32: u32 = 2;
pub const PRIVATE: u32 = 128;

impl Futex {
    /// A futex wait on a word of a libc lock.
    pub fn of(word: &AtomicU32, value: u32, is_shared: bool) -> Self {
        Self {
            address: std::ptr::from_ref(word).addr(),
            value,
            mask: ALL,
            is_shared,
        }
    }

    /// The flags of futex2(2).
    fn flags(&self) -> u32 {
        if self.is_shared {
            SIZE_U32
        } else {
            SIZE_U32 | PRIVATE
        }
    }

    /// Parks the fiber until it is woken, `deadline` passes, or handlers have to run. Fails with
    /// the error of futex(2), such as EAGAIN if the value differs already. The wait is not done if
    /// neither the engine nor the pool can wait for it.
    pub fn wait(&self, call: &Call<'_>, deadline: Deadline) -> Result<(), Unfinished> {
        if self.waits_in_ring(call) {
            let request = Request::Futex {
                address: self.address,
                value: self.value,
                mask: self.mask,
                flags: self.flags(),
            };
            return call.perform_until(&request, deadline).map(drop);
        }
        if !self.is_shared || !call.has_engine() {
            return Err(Unfinished::NotDone);
        }
        let until = (deadline != NEVER).then(|| sys::timespec_of(deadline));
        let time = until
            .as_ref()
            .map_or(0, |until| std::ptr::from_ref(until).addr());
        let request = KernelCall {
            number: Sysno::futex,
            arguments: [
                self.address,
                libc::FUTEX_WAIT_BITSET as usize,
                self.value as usize,
                time,
                0,
                self.mask as usize,
            ],
            pin: FdPin::None,
            is_first_try: false,
        };
        match call.perform(&Request::Kernel(request)) {
            Err(Unfinished::Failed(Errno::TIMEDOUT)) => Err(Unfinished::TimedOut),
            woken => woken.map(drop),
        }
    }

    /// Whether the engine can wait for this futex itself; then waking the fiber costs nothing
    /// extra.
    pub fn waits_in_ring(&self, call: &Call<'_>) -> bool {
        has_futexes(call)
    }
}

/// Whether the engine can wait for futexes.
pub fn has_futexes(call: &Call<'_>) -> bool {
    call.thread.engine().has_futexes()
}

/// futex_waitv(2) on `n` futexes, otherwise like [`Futex::wait`], except that the pool is not used.
/// Returns the index of the futex that was woken.
pub fn wait_for_any(call: &Call<'_>, futexes: usize, n: u32, deadline: Deadline) -> Completion {
    if !has_futexes(call) {
        return Err(Unfinished::NotDone);
    }
    call.perform_until(&Request::Futexes { futexes, n }, deadline)
}
