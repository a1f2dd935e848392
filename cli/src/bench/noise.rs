//! Measures the activity of the rest of the machine: processor time that other programs used.
//!
//! On a busy machine, the kernel gives more processor time to a program with more threads. Ratios
//! of fibers to threads then differ from those on a quiet machine, and the reader of the report
//! must know that.

use std::fs;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// The state of the machine when a part began.
pub struct Noise {
    at: Instant,
    busy: Option<Duration>,
    ours: Duration,
}

impl Noise {
    /// Records the current state.
    pub fn watch() -> Noise {
        Noise {
            at: Instant::now(),
            busy: busy(),
            ours: ours(),
        }
    }

    /// The number of processors that other programs have kept busy since [`Self::watch`]. They
    /// include kernel threads, and the hypervisor if it takes processor time away.
    pub fn processors(&self) -> Option<f64> {
        let busy = busy()?.saturating_sub(self.busy?);
        let theirs = busy.saturating_sub(ours().saturating_sub(self.ours));
        Some(theirs.as_secs_f64() / self.at.elapsed().as_secs_f64())
    }

    /// A warning for the report, if the activity is large enough to matter.
    pub fn notes(&self) -> Option<String> {
        warning(self.processors()?)
    }
}

/// A warning for the report, if other programs kept so many processors busy that it matters.
pub fn warning(processors: f64) -> Option<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (processors > 0.1 * cores as f64).then(|| {
        format!(
            "busy machine: other programs kept {processors:.2} of {cores} processors busy; \
            this favours programs \
            with many threads, so measure again on a quiet machine before relying on a ratio"
        )
    })
}

/// The busy time of all processors since boot: everything except idle time and waiting for disks.
fn busy() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    // The fields are user, nice, system, idle, iowait, irq, softirq and steal. Guest time is
    // already included in user.
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.get(3)? - ticks.get(4)?;
    // SAFETY: sysconf takes a number and returns one.
    let hz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    Some(Duration::from_millis(busy * 1000 / hz.max(1)))
}

/// The processor time of this process and of all children it has waited for.
fn ours() -> Duration {
    let of = |who| {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a local variable of the right type, and all zeros is a valid
        // rusage.
        let usage = unsafe {
            libc::getrusage(who, usage.as_mut_ptr());
            usage.assume_init()
        };
        [usage.ru_utime, usage.ru_stime]
            .map(|time| Duration::new(time.tv_sec.cast_unsigned(), time.tv_usec as u32 * 1000))
            .iter()
            .sum::<Duration>()
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

#[cfg(test)]
mod tests {
    use super::{busy, ours};

    #[test]
    fn the_machine_was_busier_than_we() {
        assert!(busy().expect("/proc/stat") >= ours());
    }
}
