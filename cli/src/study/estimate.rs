//! A median with the interval in which it lies: the bootstrap of its samples.
//!
//! The samples are drawn again with replacement, many times, and the interval holds 95 % of the
//! medians. It makes no assumption about their distribution. The random numbers are the same in
//! each run, so the same samples give the same interval.

use super::unit::Unit;

/// How often the samples are drawn again.
const DRAWS: usize = 1000;

/// One sample says nothing about its spread. The interval of two or three is about their range.
const FEWEST: usize = 2;

/// The median of samples and the interval in which it lies with a probability of 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub unit: Unit,
    pub value: f64,
    /// `None` if there are too few samples.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// Returns `None` without samples.
    pub fn of(unit: Unit, samples: &[f64]) -> Option<Estimate> {
        let value = median(&mut samples.to_vec())?;
        let interval = (samples.len() >= FEWEST).then(|| bootstrap(samples));
        Some(Estimate {
            unit,
            value,
            interval,
        })
    }

    /// A value that was not sampled, such as a sum or a count.
    pub fn exact(unit: Unit, value: f64) -> Estimate {
        Estimate {
            unit,
            value,
            interval: None,
        }
    }
}

/// The median; sorts `values`. `None` without values.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(f64::midpoint(values[last / 2], values[last.div_ceil(2)]))
}

fn bootstrap(samples: &[f64]) -> (f64, f64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut draw = vec![0.0; samples.len()];
    let mut medians: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            draw.fill_with(|| samples[next(samples.len())]);
            median(&mut draw)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    (medians[DRAWS / 40], medians[DRAWS - 1 - DRAWS / 40])
}

#[cfg(test)]
mod tests {
    use super::{Estimate, median};
    use crate::study::unit::Unit;

    #[test]
    fn the_median_lies_in_its_interval() {
        let samples: Vec<f64> = (0..101).map(f64::from).collect();
        let estimate = Estimate::of(Unit::Count, &samples).expect("samples");
        let (low, high) = estimate.interval.expect("many samples");
        assert_eq!(estimate.value, 50.0);
        // The exact interval of the median of 101 ordered values is 40 to 60.
        assert!((38.0..=43.0).contains(&low) && (57.0..=62.0).contains(&high));
        assert_eq!(Estimate::of(Unit::Count, &samples), Some(estimate));
    }

    #[test]
    fn few_samples_have_no_interval() {
        let one = Estimate::of(Unit::Count, &[3.0]).expect("a sample");
        assert_eq!((one.value, one.interval), (3.0, None));
        assert_eq!(Estimate::of(Unit::Count, &[]), None);
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
    }
}
