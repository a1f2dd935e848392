//! Scales: from values to positions in a plot, and the ticks of an axis.

use crate::study::unit::Unit;

/// The unit of the numbers on an axis.
pub fn of_axis(axis: &str) -> Unit {
    match axis {
        "size" | "buffer" => Unit::Bytes,
        "latency" | "work" => Unit::Nanoseconds,
        _ => Unit::Count,
    }
}

/// A linear or logarithmic scale over a range of values.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// The positions of both ends.
    from: f64,
    to: f64,
}

impl Scale {
    /// A scale that shows `values` between the positions `from` and `to`. A linear one begins at 0.
    pub fn over(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Scale {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| !log || *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        if !low.is_finite() {
            (low, high) = (1.0, 10.0);
        }
        if log {
            // A single value gets some room on both sides.
            if high / low < 1.001 {
                (low, high) = (low / 2.0, high * 2.0);
            }
        } else {
            low = 0.0;
            high = if high > 0.0 { high } else { 1.0 };
        }
        Scale {
            low,
            high,
            log,
            from,
            to,
        }
    }

    /// Widens a logarithmic scale, so that the extreme values are not on its ends.
    pub fn with_room(mut self) -> Scale {
        if self.log {
            (self.low, self.high) = (self.low / 1.25, self.high * 1.25);
        } else {
            self.high *= 1.05;
        }
        self
    }

    pub fn position(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values inside the range, about five.
    pub fn ticks(&self, unit: Unit) -> Vec<f64> {
        if self.log {
            return self.powers(unit);
        }
        let rough = (self.high - self.low) / 4.0;
        // Bytes are counted in powers of 2.
        let base: f64 = if unit == Unit::Bytes { 2.0 } else { 10.0 };
        let power = base.powf(rough.log(base).floor());
        let steps: &[f64] = if unit == Unit::Bytes {
            &[1.0, 2.0]
        } else {
            &[1.0, 2.0, 5.0, 10.0]
        };
        let step = power * steps.iter().find(|s| *s * power >= rough).unwrap_or(&base);
        let many = (self.high / step).floor() as u32;
        (0..=many).map(|n| f64::from(n) * step).collect()
    }

    fn powers(&self, unit: Unit) -> Vec<f64> {
        // Bytes are counted in powers of 2.
        let (base, digits): (f64, &[f64]) = match unit {
            Unit::Bytes => (4.0, &[1.0, 2.0]),
            _ => (10.0, &[1.0, 2.0, 5.0]),
        };
        let first = self.low.log(base).ceil() as i32;
        let last = self.high.log(base).floor() as i32;
        let powers: Vec<f64> = (first..=last).map(|power| base.powi(power)).collect();
        if powers.len() >= 3 {
            let every = powers.len().div_ceil(6);
            return powers.into_iter().step_by(every).collect();
        }
        let parts = (first - 1..=last)
            .flat_map(|power| digits.iter().map(move |digit| digit * base.powi(power)));
        parts
            .filter(|v| (self.low..=self.high).contains(v))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Scale;
    use crate::study::unit::Unit;

    #[test]
    fn ticks_are_round_and_inside() {
        let linear = Scale::over([3.0, 97.0].into_iter(), false, 0.0, 100.0);
        assert_eq!(linear.ticks(Unit::Count), [0.0, 50.0]);
        let log = Scale::over([2.0, 4000.0].into_iter(), true, 0.0, 100.0);
        assert_eq!(log.ticks(Unit::Count), [10.0, 100.0, 1000.0]);
        assert_eq!(log.position(2.0), 0.0);
        assert_eq!(log.position(4000.0), 100.0);
        let narrow = Scale::over([3.0, 7.0].into_iter(), true, 0.0, 1.0);
        assert_eq!(narrow.ticks(Unit::Count), [5.0]);
    }
}
