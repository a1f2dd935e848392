//! What the rest of the machine did meanwhile: processor time that was used and is not ours.
//!
//! Next to busy neighbours the kernel gives more of a processor to who has more threads, so ratios
//! of fibers to threads are then not the quiet machine's. Whoever reads them must know.

use std::fs;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// The machine when a part began.
pub struct Others {
    at: Instant,
    busy: Option<Duration>,
    ours: Duration,
}

impl Others {
    /// From now on.
    pub fn watch() -> Others {
        Others {
            at: Instant::now(),
            busy: busy(),
            ours: ours(),
        }
    }

    /// How many processors the others, the kernel's own threads and a host that took the processor
    /// away among them, have kept busy since.
    pub fn processors(&self) -> Option<f64> {
        let busy = busy()?.saturating_sub(self.busy?);
        let theirs = busy.saturating_sub(ours().saturating_sub(self.ours));
        Some(theirs.as_secs_f64() / self.at.elapsed().as_secs_f64())
    }

    /// The same in words, when it is enough to matter.
    pub fn told(&self) -> Option<String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let processors = self.processors()?;
        (processors > 0.1 * cores as f64).then(|| {
            format!(
                "not alone: others kept {processors:.2} of {cores} processors busy meanwhile; next to them many threads \
                 get more time than few, so measure again on a quiet machine before believing a ratio"
            )
        })
    }
}

/// Of all processors since the machine started: everything but idling and waiting for disks.
fn busy() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests took is in user already.
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.get(3)? - ticks.get(4)?;
    // SAFETY: it takes a number and returns one.
    let hz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    Some(Duration::from_millis(busy * 1000 / hz.max(1)))
}

/// Of this process and of all it has waited for.
fn ours() -> Duration {
    let of = |who| {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a local of the right type, and all zeroes is a valid rusage.
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
