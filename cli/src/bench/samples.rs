//! Samples of one quantity. The median represents them, the quartiles show their spread.

use serde::Serialize;

/// The samples, in the order of measurement.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// The median, or `None` without samples.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// The sum of all samples.
    pub fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The quartiles: a quarter of the samples is below the first, a quarter above the second.
    pub fn quartiles(&self) -> Option<(f64, f64)> {
        Some((self.quantile(0.25)?, self.quantile(0.75)?))
    }

    /// The minimum and the maximum.
    pub fn range(&self) -> Option<(f64, f64)> {
        Some((self.quantile(0.0)?, self.quantile(1.0)?))
    }

    /// The noise of a median ratio, estimated from these ratios, which compare a thing with itself.
    /// This is the distance of their median from 1 or the standard error of that median, whichever
    /// is larger, and at least 2 %. (For a normal distribution, the standard error is 0.93 times
    /// the distance of the quartiles, divided by the root of the number of samples.)
    pub fn noise(&self) -> Option<f64> {
        let (low, high) = self.quartiles()?;
        let error = 0.93 * (high - low) / (self.0.len() as f64).sqrt();
        Some((self.median()? - 1.0).abs().max(error).max(0.02))
    }

    /// Formats the median of ratios and their quartiles as "1.06x 1.04..1.08". Empty without
    /// samples.
    pub fn describe(&self) -> String {
        match self.median().zip(self.quartiles()) {
            Some((ratio, (low, high))) => format!("{ratio:.2}x {low:.2}..{high:.2}"),
            None => String::new(),
        }
    }

    /// Interpolates linearly between the two nearest samples.
    fn quantile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = q * (sorted.len().checked_sub(1)? as f64);
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        Some(low + (high - low) * at.fract())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Samples {
        Samples(values.into_iter().collect())
    }
}

impl Serialize for Samples {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            median: Option<f64>,
            quartiles: Option<(f64, f64)>,
            raw: &'a [f64],
        }
        let shape = Shape {
            median: self.median(),
            quartiles: self.quartiles(),
            raw: &self.0,
        };
        shape.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn median_and_quartiles() {
        let samples: Samples = [5.0, 1.0, 2.0, 4.0, 3.0].into_iter().collect();
        assert_eq!(samples.median(), Some(3.0));
        assert_eq!(samples.quartiles(), Some((2.0, 4.0)));
        assert_eq!(samples.range(), Some((1.0, 5.0)));
        let two: Samples = [1.0, 2.0].into_iter().collect();
        assert_eq!(two.median(), Some(1.5));
        assert_eq!(Samples::default().median(), None);
    }

    #[test]
    fn noise_is_the_distance_from_one_or_the_error() {
        let of = |values: [f64; 4]| values.into_iter().collect::<Samples>().noise();
        assert_eq!(of([1.0, 1.0, 1.0, 1.0]), Some(0.02));
        assert_eq!(of([1.5, 1.5, 1.5, 1.5]), Some(0.5));
        assert!(
            of([0.5, 1.0, 1.0, 1.5]).is_some_and(|noise| (noise - 0.93 * 0.25 / 2.0).abs() < 1e-9)
        );
        assert_eq!(Samples::default().noise(), None);
    }
}
