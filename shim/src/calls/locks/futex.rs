//! futex(2) and futex_waitv(2), as programs and language runtimes call them through syscall(2).
//!
//! If the engine supports futexes, the fiber waits in the kernel's own queue, as a thread would.
//! Wakers count and requeue it there, and need not go through a hook. With other engines, a pool
//! thread waits in the kernel's queue on the fiber's behalf if the futex is shared between
//! processes. For a private futex, or if there is no pool, the fiber waits in the shim's wait
//! queue, which wakers check first.

use super::kernel::{self, Futex};
use super::{WAIT_TABLE, Wait, WaitBackoff, Woken, is_valid};
use crate::calls::{Verdict, poll};
use crate::engine::{FdPin, KernelCall, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::{Completion, Unfinished};
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::restart::Restart;
use crate::state::allocator;
use libc::timespec;
use policy::Reason;
use queue::wait_table::{ANY, Which};
use std::ffi::{c_int, c_long};
use std::sync::atomic::{Ordering::SeqCst, fence};
use sys::Sysno;
use sys::errno::Errno;

/// The arguments of futex(2).
pub type Arguments = [c_long; 6];

const COMMAND: c_int = !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);

/// futex(2) on a fiber.
pub fn futex(call: &Call<'_>, arguments: Arguments) -> Verdict {
    let [address, operation, value, time, _, mask] = arguments;
    let operation = operation as c_int;
    let clock = if operation & libc::FUTEX_CLOCK_REALTIME != 0 {
        libc::CLOCK_REALTIME
    } else {
        libc::CLOCK_MONOTONIC
    };
    let (limit, mask) = match operation & COMMAND {
        libc::FUTEX_WAIT => (relative(time), kernel::ALL),
        libc::FUTEX_WAIT_BITSET => (absolute(clock, time), mask as u32),
        _ => return Verdict::PassThrough(Reason::Quick),
    };
    // Invalid arguments are for the kernel to report.
    let Some(limit) = limit else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    if mask == 0 || allocator::is_calling() {
        return Verdict::PassThrough(Reason::Unusual);
    }
    let futex = Futex {
        address: address as usize,
        value: value as u32,
        mask,
        is_shared: operation & libc::FUTEX_PRIVATE_FLAG == 0,
    };
    Verdict::from_result(wait(call, futex, limit).map(|()| 0))
}

/// futex_waitv(2).
pub fn waitv(call: &Call<'_>, arguments: Arguments) -> Verdict {
    let [futexes, n, flags, time, clock, _] = arguments;
    let clock = clock as c_int;
    let is_usual = flags == 0
        && (1..=128).contains(&n)
        && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC);
    let Some(limit) = absolute(clock, time).filter(|_| is_usual) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    if allocator::is_calling() {
        return Verdict::PassThrough(Reason::Unusual);
    }
    loop {
        let woken = match kernel::wait_for_any(call, futexes as usize, n as u32, limit) {
            Err(Unfinished::NotDone) => on_pool(call, arguments),
            woken => woken,
        };
        if woken != Err(Unfinished::Interrupted) {
            return Verdict::from_completion(woken);
        }
        if !call.continue_after_handlers(restart(limit)) {
            return Verdict::Failed(Errno::INTR);
        }
    }
}

/// futex_waitv(2) on a pool thread.
fn on_pool(call: &Call<'_>, arguments: Arguments) -> Completion {
    if !call.has_engine() {
        return Err(Unfinished::NotDone);
    }
    let request = KernelCall {
        number: Sysno::futex_waitv,
        arguments: arguments.map(|argument| argument as usize),
        pin: FdPin::None,
        is_first_try: false,
    };
    call.perform(&Request::Kernel(request))
}

/// Whether a wait is restarted. The kernel never restarts a wait that has a timeout.
fn restart(deadline: Deadline) -> Restart {
    if deadline == NEVER {
        Restart::IfHandlersAllow
    } else {
        Restart::Never
    }
}

/// Always parks the fiber. If it blocked its thread instead, that thread could not run the fiber
/// that will wake it.
fn wait(call: &Call<'_>, futex: Futex, deadline: Deadline) -> Result<(), Errno> {
    loop {
        match futex.wait(call, deadline) {
            Ok(()) => return Ok(()),
            Err(Unfinished::NotDone) => return wait_in_table(call, futex, deadline),
            Err(Unfinished::TimedOut) => return Err(Errno::TIMEDOUT),
            Err(Unfinished::Failed(error)) => return Err(error),
            Err(Unfinished::Interrupted) => {
                if !call.continue_after_handlers(restart(deadline)) {
                    return Err(Errno::INTR);
                }
            }
        }
    }
}

/// Waits in the shim's wait queue, for futexes that have no waiter in the kernel. Wakes by raw
/// system calls are not noticed, so the fiber checks periodically whether the value has changed.
fn wait_in_table(call: &Call<'_>, futex: Futex, deadline: Deadline) -> Result<(), Errno> {
    let mut backoff = WaitBackoff::new();
    loop {
        let mut refused = None;
        let wait = Wait {
            key: futex.address,
            mark: futex.mask,
            again: false,
            deadline: backoff.next(deadline),
        };
        let woken = wait.park(call, || {
            refused = compare(futex).err();
            refused.is_some()
        });
        match (woken, refused) {
            (_, Some(error)) => return Err(error),
            (Woken::ByWaker | Woken::Ready, _) => return Ok(()),
            (Woken::Interrupted, _) => return Err(Errno::INTR),
            (Woken::Timeout, _) if deadline != NEVER && sys::now() >= deadline => {
                return Err(Errno::TIMEDOUT);
            }
            (Woken::Timeout, _) if compare(futex).is_err() => return Ok(()),
            (Woken::Timeout, _) => {}
        }
    }
}

/// Compares the futex with the expected value in the kernel: EAGAIN if it differs, EFAULT if the
/// address is invalid.
fn compare(futex: Futex) -> Result<(), Errno> {
    let private = if futex.is_shared {
        0
    } else {
        libc::FUTEX_PRIVATE_FLAG
    };
    let operation = (libc::FUTEX_CMP_REQUEUE | private) as usize;
    let arguments = [
        futex.address,
        operation,
        0,
        0,
        futex.address,
        futex.value as usize,
    ];
    // SAFETY: the operation wakes no waiter and requeues none; the kernel only compares.
    unsafe { sys::call(Sysno::futex, arguments) }.map(drop)
}

/// Reads a time limit. Returns None if it is invalid or unreadable.
fn limit(time: c_long, deadline: impl FnOnce(&timespec) -> Deadline) -> Option<Deadline> {
    let time = std::ptr::with_exposed_provenance::<timespec>(time as usize);
    match poll::time_of_c(time).ok()? {
        None => Some(NEVER),
        Some(time) if is_valid(&time) && time.tv_sec >= 0 => Some(deadline(&time)),
        Some(_) => None,
    }
}

fn relative(time: c_long) -> Option<Deadline> {
    limit(time, |time| {
        let nanos = (time.tv_sec as u64).saturating_mul(1_000_000_000);
        sys::now()
            .saturating_add(nanos)
            .saturating_add(time.tv_nsec as u64)
    })
}

fn absolute(clock: c_int, time: c_long) -> Option<Deadline> {
    limit(time, |time| super::deadline(clock, time))
}

/// Called before any futex(2), on a fiber or off, that may wake: wakes fibers first. Returns how
/// many it woke, and adjusts the arguments to the work that remains for the kernel.
pub fn wake_fibers(arguments: &mut Arguments) -> c_long {
    let [address, operation, most, requeued, second, mask] = *arguments;
    // The waker changed the futex before this call.
    fence(SeqCst);
    let table = WAIT_TABLE.get();
    let wake = |address: c_long, which| {
        let key = address as usize;
        if table.may_wait(key) {
            table.wake_exactly(key, which) as c_long
        } else {
            0
        }
    };
    match operation as c_int & COMMAND {
        command @ (libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET) => {
            let mask = if command == libc::FUTEX_WAKE {
                ANY
            } else {
                mask as u32
            };
            let most = (most as c_int).max(1);
            let woken = wake(address, Which::Marked(most as usize, mask));
            arguments[2] = c_long::from(most) - woken;
            woken
        }
        // Fibers that would be requeued are woken instead, and check again.
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE if most > 0 || requeued > 0 => {
            wake(address, Which::All)
        }
        libc::FUTEX_WAKE_OP => wake(address, Which::All) + wake(second, Which::All),
        _ => 0,
    }
}
