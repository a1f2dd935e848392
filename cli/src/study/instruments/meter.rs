//! Measures what a piece of work costs a thread or the whole process: time, processor time, context
//! switches.

use std::mem::MaybeUninit;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC, the clock that the kernel's records use, too.
pub fn now_ns() -> u64 {
    read_clock(ClockId::Monotonic)
}

/// Whose processor time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This thread's.
    Thread,
    /// All threads' of this process, including the kernel's worker threads of its rings.
    Process,
}

/// What a piece of work has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Nanoseconds that passed.
    pub wall: f64,
    /// Nanoseconds of processor time.
    pub cpu: f64,
    /// Context switches because the thread waited.
    pub voluntary: f64,
    /// Context switches because another thread was given the processor.
    pub involuntary: f64,
}

impl Usage {
    /// The usage of one of `operations` operations.
    pub fn per(self, operations: u64) -> Usage {
        let many = operations.max(1) as f64;
        Usage {
            wall: self.wall / many,
            cpu: self.cpu / many,
            voluntary: self.voluntary / many,
            involuntary: self.involuntary / many,
        }
    }

    /// The part of the time that was spent off the processor, from 0 to 1.
    pub fn off_cpu(self) -> f64 {
        match self.wall {
            0.0 => 0.0,
            wall => (1.0 - self.cpu / wall).max(0.0),
        }
    }
}

/// A measurement under way.
pub struct Meter {
    whose: Whose,
    wall: u64,
    cpu: u64,
    switches: (i64, i64),
}

impl Meter {
    /// Begins a measurement.
    pub fn start(whose: Whose) -> Meter {
        let switches = switches(whose);
        Meter {
            whose,
            switches,
            cpu: cpu_ns(whose),
            wall: now_ns(),
        }
    }

    /// Ends it.
    pub fn stop(self) -> Usage {
        let wall = now_ns() - self.wall;
        let cpu = cpu_ns(self.whose) - self.cpu;
        let (voluntary, involuntary) = switches(self.whose);
        Usage {
            wall: wall as f64,
            cpu: cpu as f64,
            voluntary: (voluntary - self.switches.0) as f64,
            involuntary: (involuntary - self.switches.1) as f64,
        }
    }
}

/// Nanoseconds of processor time so far.
pub fn cpu_ns(whose: Whose) -> u64 {
    read_clock(match whose {
        Whose::Thread => ClockId::ThreadCPUTime,
        Whose::Process => ClockId::ProcessCPUTime,
    })
}

fn read_clock(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Voluntary and involuntary context switches so far.
fn switches(whose: Whose) -> (i64, i64) {
    let who = match whose {
        Whose::Thread => libc::RUSAGE_THREAD,
        Whose::Process => libc::RUSAGE_SELF,
    };
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a local variable of the right type, and all zeros is a valid
    // rusage.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    (usage.ru_nvcsw, usage.ru_nivcsw)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Meter, Usage, Whose};

    #[test]
    fn a_sleep_is_time_off_the_processor() {
        let meter = Meter::start(Whose::Thread);
        std::thread::sleep(Duration::from_millis(20));
        let usage = meter.stop();
        assert!(usage.wall >= 20e6, "{usage:?}");
        assert!(usage.voluntary >= 1.0, "{usage:?}");
        assert!(usage.off_cpu() > 0.5, "{usage:?}");
    }

    #[test]
    fn usage_is_divided_by_the_operations() {
        let usage = Usage {
            wall: 100.0,
            cpu: 25.0,
            voluntary: 10.0,
            involuntary: 0.0,
        };
        assert_eq!(usage.per(10).wall, 10.0);
        assert_eq!(usage.per(0), usage);
        assert_eq!(usage.off_cpu(), 0.75);
        assert_eq!(Usage::default().off_cpu(), 0.0);
    }
}
