//! Clocks, timers and sleep.

use super::{close, outcome};
use crate::errno::Errno;
use std::ffi::c_int;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use syscalls::{Sysno, raw};

type ClockGettime = unsafe extern "C" fn(c_int, *mut libc::timespec) -> c_int;

/// libc's own clock_gettime(2), once [`use_clock`] was told its address.
static CLOCK_GETTIME: AtomicPtr<()> = AtomicPtr::new(by_kernel as *mut ());

/// The initial value: makes the system call itself.
unsafe extern "C" fn by_kernel(clock: c_int, time: *mut libc::timespec) -> c_int {
    // SAFETY: our caller keeps the same contract.
    let done = outcome(unsafe {
        raw::syscall2(Sysno::clock_gettime as usize, clock as usize, time as usize)
    });
    done.map_or(-1, |_| 0)
}

/// Uses libc's own clock_gettime(2) from now on, which makes no system call. It must not be that of
/// a library that interposes it: the kernel keeps the deadlines, and it does not know the time that
/// such a library simulates. Uses libc instead of rustix for the same reason as
/// [`page_size`](super::page_size).
///
/// # Safety
/// `function` is the address of libc's function.
pub unsafe fn use_clock(function: *mut ()) {
    CLOCK_GETTIME.store(function, Relaxed);
}

/// The time of CLOCK_MONOTONIC in nanoseconds, without interposed clocks.
pub fn now() -> u64 {
    // SAFETY: CLOCK_GETTIME holds only functions of this type.
    let clock_gettime =
        unsafe { std::mem::transmute::<*mut (), ClockGettime>(CLOCK_GETTIME.load(Relaxed)) };
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is alive, and CLOCK_MONOTONIC always exists.
    unsafe { clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * SECOND + t.tv_nsec as u64
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// A length of time in nanoseconds; None if it is negative or its nanoseconds are out of range.
pub fn nanos_of(time: &libc::timespec) -> Option<u64> {
    let is_valid = time.tv_sec >= 0 && (0..SECOND as i64).contains(&time.tv_nsec);
    let seconds = (time.tv_sec as u64).saturating_mul(SECOND);
    is_valid.then(|| seconds.saturating_add(time.tv_nsec as u64))
}

/// Nanoseconds as a `timespec`.
pub fn timespec_of(nanos: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanos / SECOND) as libc::time_t,
        tv_nsec: (nanos % SECOND) as _,
    }
}

/// Converts the time of a clock, as the program sees it, to a time of [`now`].
/// The program's clocks are libc's functions, which another preloaded library may interpose, so a
/// time that was computed from them is compared with them. Later changes of the clock are not
/// followed.
pub fn deadline_of(clock: c_int, time: &libc::timespec) -> u64 {
    let nanos =
        |t: &libc::timespec| i128::from(t.tv_sec) * i128::from(SECOND) + i128::from(t.tv_nsec);
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is alive.
    unsafe { libc::clock_gettime(clock, &mut t) };
    let left = nanos(time) - nanos(&t);
    (i128::from(now()) + left).clamp(0, i128::from(u64::MAX - 1)) as u64
}

/// clock_gettime(2), in nanoseconds.
pub fn clock(clock: c_int) -> Option<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which is alive.
    outcome(unsafe {
        raw::syscall2(
            Sysno::clock_gettime as usize,
            clock as usize,
            &raw mut time as usize,
        )
    })
    .ok()?;
    nanos_of(&time)
}

/// Sleeps for at least `nanos`.
pub fn sleep(nanos: u64) {
    let time = rustix::thread::Timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    };
    let _ = rustix::thread::nanosleep(&time);
}

/// timerfd_create(2) and timerfd_settime(2): a descriptor that becomes readable once `clock` has
/// reached `time`.
pub fn timer_descriptor(clock: c_int, time: libc::timespec) -> Result<c_int, Errno> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: the call accesses no memory.
    let fd = outcome(unsafe {
        raw::syscall2(
            Sysno::timerfd_create as usize,
            clock as usize,
            flags as usize,
        )
    })?;
    // An all-zero time would disarm the timer.
    let least = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1,
    };
    let it_value = if (time.tv_sec, time.tv_nsec) == (0, 0) {
        least
    } else {
        time
    };
    let it_interval = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let (settings, call) = (
        libc::itimerspec {
            it_interval,
            it_value,
        },
        Sysno::timerfd_settime as usize,
    );
    // SAFETY: the kernel reads the settings, which are alive.
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

/// Blocks the calling thread for `nanos`, or until a signal.
pub fn pause(nanos: u64) {
    let time = timespec_of(nanos);
    // SAFETY: the kernel reads the time, which is alive.
    let _ =
        outcome(unsafe { raw::syscall2(Sysno::nanosleep as usize, &raw const time as usize, 0) });
}
