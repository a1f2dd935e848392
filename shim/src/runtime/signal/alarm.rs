//! A per-thread timer that interrupts a system call which blocks for too long.
//!
//! accept4(2) has no non-blocking form, and another process may take a connection that poll(2) has
//! just reported. So a thread makes the plain call under this timer. If the connection is still
//! there, that costs two extra system calls. If not, the thread's other fibers are delayed by
//! [`LIMIT_NS`], rather than until the next connection arrives.
//!
//! The timer sends the signal of [`interrupt_signal`], which a program cannot block or handle.
//!
//! Invariant: the timer is armed only inside [`Alarm::limit`] and disarmed before that returns, so
//! it interrupts no other call.

use crate::engine::pool::interrupt_signal;
use std::ffi::c_int;
use sys::Sysno;
use sys::errno::Errno;
use sys::signal_bit;

/// How long a call may block. From about one kernel tick on, 4 ms at 250 Hz, the CPU's own timer
/// usually need not be reprogrammed, which would cost more than everything else.
const LIMIT_NS: i64 = 4_000_000;

/// A POSIX timer, by its number in the kernel. It belongs to the thread that created it; the child
/// of fork does not have it.
pub struct Alarm(c_int);

impl Alarm {
    /// None if the kernel refuses timers, because of a seccomp filter or RLIMIT_SIGPENDING.
    pub fn new() -> Option<Self> {
        interrupt_signal::prepare();
        sys::unblock(signal_bit(interrupt_signal::SIGCANCEL));
        // SAFETY: zeroes are a valid sigevent.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = interrupt_signal::SIGCANCEL;
        event.sigev_notify_thread_id = sys::thread_id();
        event.sigev_value.sival_ptr = interrupt_signal::alarm_value();
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

    /// Makes `call`, an accept4(2) of the calling thread, which fails with EINTR if it blocks for
    /// too long. None, without a call, if the timer cannot be armed.
    pub fn limit<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        // The timer is periodic, because the first signal may arrive before the call has begun.
        self.set(LIMIT_NS).ok()?;
        let result = call();
        // The signal may interrupt this call too.
        while self.set(0) == Err(Errno::INTR) {}
        Some(result)
    }

    /// Makes the timer send its signal every `nanos` nanoseconds; 0 disarms it.
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
        // SAFETY: the kernel reads the settings, which are alive.
        unsafe { sys::call(Sysno::timer_settime, arguments) }.map(|_| ())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the call accesses no memory.
        let _ = unsafe { sys::call(Sysno::timer_delete, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}
