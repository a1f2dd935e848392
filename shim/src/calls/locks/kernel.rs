//! Waits in the kernel's own queue of a futex, for what is released where no hook sees it: by
//! another process, by the kernel when a thread dies, inside libc.
//!
//! io_uring waits there for a parked fiber (Linux 6.7). Where the engine cannot, a thread of the
//! pool waits for a futex that processes share; nobody waits for a private one, and the caller
//! looks again by itself.
//!
//! Invariant: the wait is in the kernel's queue, or the value was found changed, before another
//! fiber of the thread runs. So whoever wakes afterwards finds the waiter, as if it were a thread.

use crate::call::Call;
use crate::deadlines::{Deadline, NEVER};
use crate::engine::{KernelCall, Names, Request};
use crate::errno::Errno;
use crate::sys::Sysno;
use libc::timespec;
use std::sync::atomic::AtomicU32;

/// A futex, and what it must be for a wait on it to begin.
#[derive(Clone, Copy)]
pub struct Futex {
    pub address: usize,
    pub value: u32,
    /// Which wake-ups it hears.
    pub mask: u32,
    pub is_shared: bool,
}

/// FUTEX_BITSET_MATCH_ANY
pub const ALL: u32 = u32::MAX;

/// FUTEX2_SIZE_U32 and FUTEX2_PRIVATE.
const SIZE_U32: u32 = 2;
const PRIVATE: u32 = 128;

impl Futex {
    /// A word of libc's locks.
    pub fn of(word: &AtomicU32, value: u32, is_shared: bool) -> Self {
        Self {
            address: std::ptr::from_ref(word).addr(),
            value,
            mask: ALL,
            is_shared,
        }
    }

    /// futex2(2)'s flags.
    fn flags(&self) -> u32 {
        if self.is_shared {
            SIZE_U32
        } else {
            SIZE_U32 | PRIVATE
        }
    }

    /// Parks the fiber until it is woken: 0, or the error of futex(2), AGAIN where the value is
    /// another already. [`Errno::TIME`] when `deadline` is over, [`Errno::RESTART`] when handlers
    /// are to run. None where nobody can wait so.
    pub fn wait(&self, call: &Call<'_>, deadline: Deadline) -> Option<Result<(), Errno>> {
        if self.waits_in_ring(call) {
            let request = Request::Futex {
                address: self.address,
                value: self.value,
                mask: self.mask,
                flags: self.flags(),
            };
            return result(call.perform_until(&request, deadline)).map(|woken| woken.map(drop));
        }
        if !self.is_shared || !call.has_engine() {
            return None;
        }
        let until = (deadline != NEVER).then(|| of_nanos(deadline));
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
            names: Names::Nothing,
            is_first_try: false,
        };
        let woken = result(call.perform(&Request::Kernel(request)))?;
        Some(match woken {
            Err(Errno::TIMEDOUT) => Err(Errno::TIME),
            woken => woken.map(drop),
        })
    }

    /// Whether the engine waits for it, which costs a wake-up nothing.
    pub fn waits_in_ring(&self, call: &Call<'_>) -> bool {
        has_futexes(call)
    }
}

/// Whether the engine waits for futexes.
pub fn has_futexes(call: &Call<'_>) -> bool {
    call.thread
        .engine()
        .is_some_and(|engine| engine.has_futexes())
}

/// futex_waitv(2) of `n` futexes: as [`Futex::wait`]; which one was woken.
pub fn wait_for_any(
    call: &Call<'_>,
    futexes: usize,
    n: u32,
    deadline: Deadline,
) -> Option<Result<u32, Errno>> {
    if !has_futexes(call) {
        return None;
    }
    result(call.perform_until(&Request::Futexes { futexes, n }, deadline))
}

/// What came of a wait; None if nobody did it.
pub fn result(result: i32) -> Option<Result<u32, Errno>> {
    match Errno::of(result) {
        _ if result >= 0 => Some(Ok(result as u32)),
        // Nobody did it.
        Errno::CANCELED => None,
        error => Some(Err(error)),
    }
}

/// A time of CLOCK_MONOTONIC.
pub fn of_nanos(nanos: u64) -> timespec {
    timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    }
}
