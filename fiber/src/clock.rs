//! The clock of deadlines, and the conversions of its times.

use crate::errno::Errno;

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) type Instant = u64;

/// A deadline that never comes.
pub(crate) const NEVER: Instant = u64::MAX;

/// Returns the current time.
#[inline]
pub(crate) fn now() -> Instant {
    read(libc::CLOCK_MONOTONIC)
}

/// Returns whether `at` comes within about 5 ms, which is the time that a wait for a disk may take.
/// Uses a cheap clock that advances every few milliseconds.
pub(crate) fn is_soon(at: Instant) -> bool {
    at != NEVER && at < read(libc::CLOCK_MONOTONIC_COARSE).saturating_add(DISK)
}

const DISK: u64 = 5 * NS_PER_MS;
const NS_PER_MS: u64 = 1_000_000;

fn read(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to the local variable; the two clocks used here exist on every
    // kernel.
    unsafe { libc::clock_gettime(clock, &mut t) };
    nanoseconds(t.tv_sec as u64, t.tv_nsec)
}

const NS_PER_S: u64 = 1_000_000_000;

/// Converts seconds and nanoseconds to nanoseconds. A result that is too large is capped.
#[inline]
fn nanoseconds(seconds: u64, nanoseconds: libc::c_long) -> u64 {
    seconds
        .saturating_mul(NS_PER_S)
        .saturating_add(nanoseconds as u64)
}

/// Converts nanoseconds to a time for a system call.
pub(crate) fn to_timespec(ns: u64) -> rustix::fs::Timespec {
    rustix::fs::Timespec {
        tv_sec: (ns / NS_PER_S) as i64,
        tv_nsec: (ns % NS_PER_S) as _,
    }
}

/// Converts `abstime` on `clock` to an [`Instant`]. A wall-clock time is converted when the wait
/// begins, so setting the clock later does not move the deadline. Returns `EINVAL` for another
/// clock or if the nanoseconds are out of range.
pub(crate) fn deadline(clock: libc::clockid_t, abstime: &libc::timespec) -> Result<Instant, Errno> {
    if !(0..NS_PER_S as i64).contains(&abstime.tv_nsec) {
        return Err(Errno::EINVAL);
    }
    let at = nanoseconds(u64::try_from(abstime.tv_sec).unwrap_or(0), abstime.tv_nsec);
    match clock {
        libc::CLOCK_MONOTONIC => Ok(at.min(NEVER - 1)),
        libc::CLOCK_REALTIME => Ok(now()
            .saturating_add(at.saturating_sub(read(clock)))
            .min(NEVER - 1)),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_checked_and_converted() {
        let t = |tv_sec, tv_nsec| libc::timespec { tv_sec, tv_nsec };
        assert_eq!(deadline(libc::CLOCK_MONOTONIC, &t(2, 5)), Ok(2_000_000_005));
        assert_eq!(deadline(libc::CLOCK_MONOTONIC, &t(-1, 0)), Ok(0));
        assert_eq!(
            deadline(libc::CLOCK_MONOTONIC, &t(i64::MAX, 0)),
            Ok(NEVER - 1)
        );
        assert_eq!(
            deadline(libc::CLOCK_MONOTONIC, &t(0, 1_000_000_000)),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            deadline(libc::CLOCK_MONOTONIC, &t(0, -1)),
            Err(Errno::EINVAL)
        );
        assert_eq!(deadline(libc::CLOCK_BOOTTIME, &t(0, 0)), Err(Errno::EINVAL));
        let before = now();
        assert!(deadline(libc::CLOCK_REALTIME, &t(0, 0)).unwrap() >= before);
    }
}
