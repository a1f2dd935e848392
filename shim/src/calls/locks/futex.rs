//! futex(2), as programs and other languages' runtimes call it through syscall(2): a fiber waits in the lot, who wakes looks there first.
//!
//! A wait on a futex that other processes may share ends early now and then, as the manual allows: their wakes are not seen.

use super::{LOT, Patience, Wait, Woken, is_valid};
use crate::allocator;
use crate::call::Call;
use crate::calls::{Outcome, poll};
use crate::deadlines::{Deadline, NEVER};
use crate::errno::Errno;
use crate::lot::{ANY, Which};
use crate::policy::Why;
use crate::sys;
use libc::timespec;
use std::ffi::{c_int, c_long};
use std::sync::atomic::{Ordering::SeqCst, fence};

/// The arguments of futex(2).
pub type Arguments = [c_long; 6];

const COMMAND: c_int = !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);

/// futex(2) on a fiber.
pub fn futex(call: &Call<'_>, arguments: Arguments) -> Outcome {
    let [address, operation, value, time, _, mask] = arguments;
    let operation = operation as c_int;
    let (limit, mark) = match operation & COMMAND {
        libc::FUTEX_WAIT => (relative(time), ANY),
        libc::FUTEX_WAIT_BITSET => (absolute(operation, time), mask as u32),
        _ => return Outcome::Through(Why::Quick),
    };
    // What is wrong with them is the kernel's to say.
    let Some(limit) = limit else {
        return Outcome::Through(Why::Unusual);
    };
    if mark == 0 || allocator::is_calling() {
        return Outcome::Through(Why::Unusual);
    }
    Outcome::Done(wait(call, address as usize, operation, value as u32, limit, mark).map(|()| 0))
}

fn wait(call: &Call<'_>, key: usize, operation: c_int, value: u32, deadline: Deadline, mark: u32) -> Result<(), Errno> {
    let shared = operation & libc::FUTEX_PRIVATE_FLAG == 0;
    let mut patience = Patience::new();
    loop {
        let mut refused = None;
        let long = patience.is_spent();
        let wait = Wait {
            key,
            mark,
            again: false,
            deadline: patience.next(deadline),
        };
        let woken = wait.park(call, || {
            refused = compare(key, operation, value).err();
            refused.is_some()
        });
        match (woken, refused) {
            (_, Some(error)) => return Err(error),
            (Woken::Landed | Woken::Ready, _) => return Ok(()),
            (Woken::Interrupted, _) => return Err(Errno::INTR),
            (Woken::Timeout, _) if deadline != NEVER && sys::now() >= deadline => return Err(Errno::TIMEDOUT),
            (Woken::Timeout, _) if shared && long => return Ok(()),
            // A wake by a bare system call is not seen, what it is about is: its value has changed.
            (Woken::Timeout, _) if compare(key, operation, value).is_err() => return Ok(()),
            (Woken::Timeout, _) => {}
        }
    }
}

/// Whether the futex has the value that it is to have, as the kernel sees it: EAGAIN if not, and EFAULT.
fn compare(key: usize, operation: c_int, value: u32) -> Result<(), Errno> {
    let private = operation & libc::FUTEX_PRIVATE_FLAG;
    let operation = (libc::FUTEX_CMP_REQUEUE | private) as usize;
    // SAFETY: none is woken, none requeued: the kernel compares, no more.
    unsafe { sys::call(sys::Sysno::futex, [key, operation, 0, 0, key, value as usize]) }.map(drop)
}

/// A time limit; None if it is not a valid one.
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
        sys::now().saturating_add(nanos).saturating_add(time.tv_nsec as u64)
    })
}

fn absolute(operation: c_int, time: c_long) -> Option<Deadline> {
    let clock = if operation & libc::FUTEX_CLOCK_REALTIME != 0 {
        libc::CLOCK_REALTIME
    } else {
        libc::CLOCK_MONOTONIC
    };
    limit(time, |time| super::deadline(clock, time))
}

/// Before a futex(2) on a fiber or off that may wake: wakes fibers first. How many, and what is left for the kernel to do.
pub fn wake_fibers(arguments: &mut Arguments) -> c_long {
    let [address, operation, most, requeued, second, mask] = *arguments;
    // The waker has changed the futex before.
    fence(SeqCst);
    let lot = LOT.get();
    let wake = |address: c_long, which| {
        let key = address as usize;
        if lot.may_wait(key) {
            lot.wake_exactly(key, which) as c_long
        } else {
            0
        }
    };
    match operation as c_int & COMMAND {
        command @ (libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET) => {
            let mask = if command == libc::FUTEX_WAKE { ANY } else { mask as u32 };
            let most = (most as c_int).max(1);
            let woken = wake(address, Which::Marked(most as usize, mask));
            arguments[2] = c_long::from(most) - woken;
            woken
        }
        // Those that would be requeued are woken instead, and find out.
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE if most > 0 || requeued > 0 => wake(address, Which::All),
        libc::FUTEX_WAKE_OP => wake(address, Which::All) + wake(second, Which::All),
        _ => 0,
    }
}
