//! futex(2), and the calls of futex2 (futex_wait, futex_waitv, futex_wake and futex_requeue), as
//! programs and language runtimes make them through syscall(2).
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

/// The arguments of a futex call.
pub type Arguments = [c_long; 6];

// libc has no constants for these.
const SYS_FUTEX_WAKE: c_long = Sysno::futex_wake as c_long;
const SYS_FUTEX_WAIT: c_long = Sysno::futex_wait as c_long;
const SYS_FUTEX_REQUEUE: c_long = Sysno::futex_requeue as c_long;

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
    Verdict::from_result(wait(call, futex, limit, restart(limit)).map(|()| 0))
}

/// Whether futex(2) is restarted. The kernel never restarts it if it has a timeout. The waits of
/// futex2 have absolute timeouts, and the kernel restarts them all.
pub fn restart(deadline: Deadline) -> Restart {
    if deadline == NEVER {
        Restart::IfHandlersAllow
    } else {
        Restart::Never
    }
}

/// A wait of futex2 on a fiber. None if this is another call.
#[inline(never)]
pub fn wait_of_futex2(call: &Call<'_>, number: c_long, arguments: Arguments) -> Option<Verdict> {
    let wait = match number {
        libc::SYS_futex_waitv => waitv,
        SYS_FUTEX_WAIT => wait_for_one,
        _ => return None,
    };
    Some(if allocator::is_calling() {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        wait(call, arguments)
    })
}

/// futex_wait(2).
fn wait_for_one(call: &Call<'_>, arguments: Arguments) -> Verdict {
    let [address, value, mask, flags, time, clock] = arguments;
    let Some(limit) = absolute(clock as c_int, time) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    let flags = flags as u32;
    let is_usual = flags & !kernel::PRIVATE == kernel::SIZE_U32 && mask != 0;
    let (Ok(value), Ok(mask), true) = (u32::try_from(value), u32::try_from(mask), is_usual) else {
        // A futex of a node, or an error for the kernel to report.
        return until_done(call, || on_pool(call, Sysno::futex_wait, arguments));
    };
    let futex = Futex {
        address: address as usize,
        value,
        mask,
        is_shared: flags & kernel::PRIVATE == 0,
    };
    Verdict::from_result(wait(call, futex, limit, Restart::IfHandlersAllow).map(|()| 0))
}

/// futex_waitv(2).
fn waitv(call: &Call<'_>, arguments: Arguments) -> Verdict {
    let [futexes, n, flags, time, clock, _] = arguments;
    let Some(limit) = absolute(clock as c_int, time) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    if flags != 0 || !(1..=128).contains(&n) {
        return Verdict::PassThrough(Reason::Unusual);
    }
    until_done(call, || {
        match kernel::wait_for_any(call, futexes as usize, n as u32, limit) {
            Err(Unfinished::NotDone) => on_pool(call, Sysno::futex_waitv, arguments),
            woken => woken,
        }
    })
}

/// Waits until a wait of futex2 is not interrupted, or is not to be restarted.
fn until_done(call: &Call<'_>, wait: impl Fn() -> Completion) -> Verdict {
    loop {
        let woken = wait();
        if woken != Err(Unfinished::Interrupted) {
            return Verdict::from_completion(woken);
        }
        if !call.continue_after_handlers(Restart::IfHandlersAllow) {
            return Verdict::Failed(Errno::INTR);
        }
    }
}

/// A wait of futex2 on a pool thread.
fn on_pool(call: &Call<'_>, number: Sysno, arguments: Arguments) -> Completion {
    if !call.has_engine() {
        return Err(Unfinished::NotDone);
    }
    let request = KernelCall {
        number,
        arguments: arguments.map(|argument| argument as usize),
        pin: FdPin::None,
        is_first_try: false,
    };
    call.perform(&Request::Kernel(request))
}

/// Always parks the fiber. If it blocked its thread instead, that thread could not run the fiber
/// that will wake it.
fn wait(call: &Call<'_>, futex: Futex, deadline: Deadline, restart: Restart) -> Result<(), Errno> {
    loop {
        match futex.wait(call, deadline) {
            Ok(()) => return Ok(()),
            Err(Unfinished::NotDone) => return wait_in_table(call, futex, deadline, restart),
            Err(Unfinished::TimedOut) => return Err(Errno::TIMEDOUT),
            Err(Unfinished::Failed(error)) => return Err(error),
            Err(Unfinished::Interrupted) => {
                if !call.continue_after_handlers(restart) {
                    return Err(Errno::INTR);
                }
            }
        }
    }
}

/// Waits in the shim's wait queue, for futexes that have no waiter in the kernel. Wakes by raw
/// system calls are not noticed, so the fiber checks periodically whether the value has changed.
fn wait_in_table(
    call: &Call<'_>,
    futex: Futex,
    deadline: Deadline,
    restart: Restart,
) -> Result<(), Errno> {
    let mut backoff = WaitBackoff::new();
    loop {
        let mut refused = None;
        let wait = Wait {
            key: futex.address,
            mark: futex.mask,
            again: false,
            deadline: backoff.next(deadline),
        };
        let woken = wait.park_first(call, || {
            refused = compare(futex).err();
            refused.is_some()
        });
        match (woken, refused) {
            (_, Some(error)) => return Err(error),
            (None, _) if call.continue_after_handlers(restart) => {}
            (None | Some(Woken::Interrupted), _) => return Err(Errno::INTR),
            (Some(Woken::ByWaker | Woken::Ready), _) => return Ok(()),
            (Some(Woken::Timeout), _) if deadline != NEVER && sys::now() >= deadline => {
                return Err(Errno::TIMEDOUT);
            }
            (Some(Woken::Timeout), _) if compare(futex).is_err() => return Ok(()),
            (Some(Woken::Timeout), _) => {}
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
    if time != 0 && !super::is_supported(clock) {
        return None;
    }
    limit(time, |time| super::deadline(clock, time))
}

/// Whether the system call of this number may wake waiters; [`wake_fibers`] is called before it.
#[inline(always)]
pub fn may_wake(number: c_long) -> bool {
    matches!(number, libc::SYS_futex | SYS_FUTEX_WAKE | SYS_FUTEX_REQUEUE)
}

/// The part of a futex call that the shim has carried out.
pub struct WokenFibers {
    pub n: c_long,
    /// Nothing is left for the kernel to do.
    pub is_enough: bool,
}

/// Called before any futex call, on a fiber or off, that may wake: wakes fibers first, and adjusts
/// the arguments to the work that remains for the kernel.
pub fn wake_fibers(number: c_long, arguments: &mut Arguments) -> WokenFibers {
    // The waker changed the futex before this call.
    fence(SeqCst);
    let [address, second_word, most, fourth, second, last] = *arguments;
    let n = match (number, second_word as c_int & COMMAND) {
        // The kernel wakes one waiter for fewer.
        (libc::SYS_futex, libc::FUTEX_WAKE) => wake_some(address, ANY, (most as c_int).max(1)),
        (libc::SYS_futex, libc::FUTEX_WAKE_BITSET) => {
            wake_some(address, last as u32, (most as c_int).max(1))
        }
        (SYS_FUTEX_WAKE, _) if most as c_int != 0 => {
            wake_some(address, second_word as u32, (most as c_int).max(1))
        }
        (libc::SYS_futex, libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE)
            if most > 0 || fourth > 0 =>
        {
            return wake_all([address]);
        }
        (SYS_FUTEX_REQUEUE, _) if most > 0 || fourth > 0 => {
            // The first of two `struct futex_waitv` begins with the expected value and the address.
            let from = std::ptr::with_exposed_provenance(address as usize);
            let address = sys::copy_words_in(from, 2).map_or(0, |words| words[1] as c_long);
            return wake_all([address]);
        }
        (libc::SYS_futex, libc::FUTEX_WAKE_OP) => return wake_all([address, second]),
        _ => 0,
    };
    if n > 0 {
        arguments[2] = c_long::from((most as c_int).max(1)) - n;
    }
    WokenFibers {
        n,
        is_enough: n > 0 && arguments[2] == 0,
    }
}

/// Wakes up to `most` fibers that wait for a bit of the mask.
fn wake_some(address: c_long, mask: u32, most: c_int) -> c_long {
    wake(address, Which::Marked(most as usize, mask))
}

/// Wakes all fibers that wait at the addresses. Those that would be requeued check again. The
/// kernel still has to make the call.
fn wake_all<const N: usize>(addresses: [c_long; N]) -> WokenFibers {
    WokenFibers {
        n: addresses.into_iter().map(|at| wake(at, Which::All)).sum(),
        is_enough: false,
    }
}

fn wake(address: c_long, which: Which) -> c_long {
    let (table, key) = (WAIT_TABLE.get(), address as usize);
    if table.may_wait(key) {
        table.wake_exactly(key, which) as c_long
    } else {
        0
    }
}
