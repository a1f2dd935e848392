//! Times single operations without the cost of reading the clock.

use std::sync::OnceLock;
use std::time::Duration;

use crate::study::cell::Sample;
use crate::study::instruments::meter::{Meter, Usage, Whose, now_ns};
use crate::study::latency::Latency;
use crate::study::unit::Unit;

/// Figures of a series of operations.
pub const TIME: &str = "time to return";
pub const CPU: &str = "CPU";
pub const OFF_CPU: &str = "off CPU";
pub const SWITCHES: &str = "voluntary switches";

/// How long a series lasts, and how many operations it has at least and at most.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    pub time: Duration,
    pub least: u64,
    pub most: u64,
}

/// What a series has cost: one operation on average, and the distribution.
pub struct Series {
    pub usage: Usage,
    pub latency: Latency,
}

impl Series {
    /// The usual figures of a blocking call.
    pub fn sample(self) -> Sample {
        Sample::of(TIME, Unit::Nanoseconds, self.usage.wall)
            .and(CPU, Unit::Nanoseconds, self.usage.cpu)
            .and(OFF_CPU, Unit::Share, self.usage.off_cpu())
            .and(SWITCHES, Unit::Count, self.usage.voluntary)
            .with_latency(self.latency)
    }
}

/// Repeats `operation` for `length`. The end of one operation is the start of the next, so the
/// clock is read once for each, and the cost of that is subtracted.
pub fn time(
    length: Length,
    mut operation: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Series> {
    let clock = clock_ns();
    let mut latency = Latency::new();
    let mut operations = 0;
    let meter = Meter::start(Whose::Thread);
    let start = now_ns();
    let mut before = start;
    loop {
        operation(operations)?;
        operations += 1;
        let now = now_ns();
        latency.add((now - before).saturating_sub(clock as u64), 1);
        before = now;
        let over = u128::from(now - start) >= length.time.as_nanos();
        if operations >= length.most || (over && operations >= length.least) {
            break;
        }
    }
    let mut usage = meter.stop().per(operations);
    usage.wall = (usage.wall - clock).max(0.0);
    usage.cpu = (usage.cpu - clock).max(0.0);
    Ok(Series { usage, latency })
}

/// Nanoseconds that reading the clock takes.
pub fn clock_ns() -> f64 {
    static COST: OnceLock<f64> = OnceLock::new();
    *COST.get_or_init(|| {
        const READS: u64 = 1000;
        let round = || {
            let start = now_ns();
            let last = (0..READS).fold(start, |_, _| now_ns());
            (last - start) as f64 / READS as f64
        };
        // An interrupt only makes a round longer.
        (0..50).map(|_| round()).fold(f64::INFINITY, f64::min)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Length, clock_ns, time};

    const LENGTH: Length = Length {
        time: Duration::from_millis(4),
        least: 3,
        most: 1000,
    };

    #[test]
    fn slow_operations_are_repeated_the_least_times() {
        let sleep = |_| {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        };
        let series = time(LENGTH, sleep).expect("no error");
        assert_eq!(series.latency.count(), 3);
        assert!(series.usage.wall > 1.9e6, "{:?}", series.usage);
    }

    #[test]
    fn fast_operations_are_repeated_the_most_times() {
        let series = time(LENGTH, |_| Ok(())).expect("no error");
        assert!((LENGTH.least..=LENGTH.most).contains(&series.latency.count()));
        assert!(clock_ns() > 0.0);
    }

    #[test]
    fn an_error_ends_the_series() {
        let fails = |n| match n {
            2 => Err(anyhow::anyhow!("the third fails")),
            _ => Ok(()),
        };
        assert!(time(LENGTH, fails).is_err());
    }
}
