//! A timer of one thread that ends a system call which waits for longer than it should.
//!
//! accept4(2) has no form that does not wait, and a connection that poll(2) has just reported may
//! be taken by another process. So a thread makes the plain call under this timer: where the
//! connection is still there, that costs two system calls more, and where it is not, the other
//! fibers of the thread are held up for [`LIMIT_NS`], not until the next connection.
//!
//! The timer sends the signal of [`kick`](super::kick), which no program can block or handle.
//!
//! Invariant: the timer is armed only inside [`Alarm::limit`]. It is disarmed when that returns, so
//! it interrupts no other call.

use super::{bit, kick};
use crate::errno::Errno;
use crate::sys::{self, Sysno};
use std::ffi::c_int;

/// How long a call may wait. From about one tick of the kernel on, 4 ms at 250 Hz, the processor's
/// own timer need not be programmed anew for it, which costs more than all the rest.
const LIMIT_NS: i64 = 4_000_000;

/// A POSIX timer, by the kernel's number of it. It is the thread's that made it, and the child of a
/// fork has none.
pub struct Alarm(c_int);

impl Alarm {
    /// None where the kernel refuses timers: by a filter, or past RLIMIT_SIGPENDING.
    pub fn new() -> Option<Self> {
        kick::prepare();
        sys::unblock(bit(kick::SIGCANCEL));
        // SAFETY: zeroes are a valid sigevent.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = kick::SIGCANCEL;
        event.sigev_notify_thread_id = sys::thread_id();
        event.sigev_value.sival_ptr = kick::of_alarm();
        let mut timer: c_int = 0;
        let (clock, event, at) = (
            libc::CLOCK_MONOTONIC as usize,
            &raw const event as usize,
            &raw mut timer as usize,
        );
        // SAFETY: the kernel reads the sigevent and writes the number; both are alive.
        unsafe { sys::call(Sysno::timer_create, [clock, event, at, 0, 0, 0]) }.ok()?;
        Some(Self(timer))
    }

    /// Makes `call`, an accept4(2) of the calling thread, which fails with EINTR when it waits for
    /// too long. None, without a call, where the timer cannot be armed.
    pub fn limit<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        // Again and again, should the first one come before the call has begun.
        self.set(LIMIT_NS).ok()?;
        let result = call();
        // The signal may end this call, too.
        while self.set(0) == Err(Errno::INTR) {}
        Some(result)
    }

    /// Has the timer send its signal every so many nanoseconds; with 0, no more.
    fn set(&self, nanos: i64) -> Result<(), Errno> {
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: nanos,
        };
        let settings = libc::itimerspec {
            it_interval: time,
            it_value: time,
        };
        let arguments = [self.0 as usize, 0, &raw const settings as usize, 0, 0, 0];
        // SAFETY: the kernel reads the settings, alive.
        unsafe { sys::call(Sysno::timer_settime, arguments) }.map(|_| ())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: touches no memory.
        let _ = unsafe { sys::call(Sysno::timer_delete, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}
