//! Clocks, timers and sleep.

use super::{close, outcome};
use crate::errno::Errno;
use std::ffi::c_int;
use syscalls::{Sysno, raw};

/// Nanoseconds of CLOCK_MONOTONIC. By libc, for the reason that [`page_size`](super::page_size) is.
pub fn now() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is alive; CLOCK_MONOTONIC is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// clock_gettime(2), in nanoseconds.
pub fn clock(clock: c_int) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, alive.
    outcome(unsafe { raw::syscall2(Sysno::clock_gettime as usize, clock as usize, &raw mut time as usize) }).ok()?;
    Some((time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64)
}

/// Sleeps for at least `nanos`.
pub fn sleep(nanos: u64) {
    let time = rustix::thread::Timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    };
    let _ = rustix::thread::nanosleep(&time);
}

/// timerfd_create(2) and timerfd_settime(2): a descriptor that is readable once `clock` has come to `time`.
pub fn timer_descriptor(clock: c_int, time: libc::timespec) -> Result<c_int, Errno> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: touches no memory.
    let fd = outcome(unsafe { raw::syscall2(Sysno::timerfd_create as usize, clock as usize, flags as usize) })?;
    // All zero would be no time at all.
    let least = libc::timespec { tv_sec: 0, tv_nsec: 1 };
    let it_value = if (time.tv_sec, time.tv_nsec) == (0, 0) {
        least
    } else {
        time
    };
    let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let (settings, call) = (
        libc::itimerspec { it_interval, it_value },
        Sysno::timerfd_settime as usize,
    );
    // SAFETY: the kernel reads the settings, alive.
    let set = outcome(unsafe {
        raw::syscall4(
            call,
            fd,
            libc::TFD_TIMER_ABSTIME as usize,
            &raw const settings as usize,
            0,
        )
    });
    match set {
        Ok(_) => Ok(fd as c_int),
        Err(error) => {
            let _ = close(fd as c_int);
            Err(error)
        }
    }
}

/// Blocks the calling thread for so long, or until a signal.
pub fn pause(nanos: u64) {
    let time = libc::timespec {
        tv_sec: (nanos / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanos % 1_000_000_000) as _,
    };
    // SAFETY: the kernel reads the time, alive.
    let _ = outcome(unsafe { raw::syscall2(Sysno::nanosleep as usize, &raw const time as usize, 0) });
}
