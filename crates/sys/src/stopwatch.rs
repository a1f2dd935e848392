//! Checks whether an operation took longer than a limit, for operations that are usually much
//! faster. Reads the CPU's cycle counter at both ends, and the clock only if the result is unclear.
//! clock_gettime(2) takes 30 ns of a buffered write's 1300 ns, the counter 12 ns.
//!
//! On every x86-64 CPU of recent years the counter ticks at least once per nanosecond. Its rate is
//! calibrated against the clock, starting with one reading of both when the process starts. If the
//! rate is not constant, an answer may be wrong, which only costs time.

use crate::now;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counter and the clock at the same moment.
static TICKS: AtomicU64 = AtomicU64::new(0);
static NANOS: AtomicU64 = AtomicU64::new(0);

/// Takes the first reading of both. Start-up calls this.
pub fn calibrate() {
    TICKS.store(ticks(), Ordering::Relaxed);
    NANOS.store(now(), Ordering::Relaxed);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction; a process that was told to fault on it
    // (PR_SET_TSC) could not use clock_gettime(2) of the vDSO either.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn ticks() -> u64 {
    now()
}

/// The counter's rate. Waits until it is known, if the process has just started.
pub fn ticks_per_nano() -> f64 {
    const LONG_ENOUGH: u64 = 2_000_000;
    let (first, begin) = (TICKS.load(Ordering::Relaxed), NANOS.load(Ordering::Relaxed));
    while now() - begin < LONG_ENOUGH {}
    (ticks() - first) as f64 / (now() - begin) as f64
}

#[derive(Clone, Copy)]
pub struct Stopwatch(u64);

impl Stopwatch {
    /// One that was started long ago.
    pub const LONG_AGO: Self = Self(0);

    #[inline(always)]
    pub fn start() -> Self {
        Self(ticks())
    }

    /// Whether more than `nanos` nanoseconds have passed.
    #[inline(always)]
    pub fn exceeds(&self, nanos: u64) -> bool {
        self.had_exceeded(&Self::start(), nanos)
    }

    /// Whether more than `nanos` nanoseconds had passed when `later` was started.
    #[inline(always)]
    pub fn had_exceeded(&self, later: &Self, nanos: u64) -> bool {
        let passed = later.0.wrapping_sub(self.0);
        passed > nanos && in_nanos(passed) > nanos
    }

    /// Whether surely at most `nanos` nanoseconds had passed when `later` was started.
    #[inline(always)]
    pub fn surely_within(&self, later: &Self, nanos: u64) -> bool {
        later.0.wrapping_sub(self.0) <= nanos
    }

    /// Elapsed nanoseconds. Reads the clock, too.
    pub fn nanos(&self) -> u64 {
        // The counter of another CPU may be behind.
        in_nanos(ticks().saturating_sub(self.0))
    }

    /// Elapsed nanoseconds within a factor of two, assuming a 2.5 GHz counter (CPUs of recent
    /// years: 1.8 to 4 GHz).
    #[inline(always)]
    pub fn roughly(&self) -> u64 {
        // The counter of another CPU may be behind.
        let passed = ticks().saturating_sub(self.0);
        if cfg!(target_arch = "x86_64") {
            passed / 5 * 2
        } else {
            passed
        }
    }
}

#[cold]
#[inline(never)]
fn in_nanos(passed: u64) -> u64 {
    let ticks = ticks().wrapping_sub(TICKS.load(Ordering::Relaxed));
    let nanos = now() - NANOS.load(Ordering::Relaxed);
    (u128::from(passed) * u128::from(nanos) / u128::from(ticks.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_millisecond_is_more_than_half_of_one_and_less_than_a_second() {
        calibrate();
        let (watch, begin) = (Stopwatch::start(), now());
        assert!(!watch.exceeds(1_000_000_000));
        while now() - begin < 1_000_000 {}
        assert!(watch.exceeds(500_000));
        let ns = in_nanos(ticks().wrapping_sub(watch.0));
        assert!(ns >= 900_000, "{ns} ns");
    }
}
