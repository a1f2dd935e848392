//! Samples of one quantity: the median, and the quartiles as their spread.

use serde::Serialize;

/// What was seen, in the order it was.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// The middle one; none of none.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// A quarter of the samples lies below the first, a quarter above the second.
    pub fn quartiles(&self) -> Option<(f64, f64)> {
        Some((self.quantile(0.25)?, self.quantile(0.75)?))
    }

    /// Linear between the two nearest samples.
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
        let two: Samples = [1.0, 2.0].into_iter().collect();
        assert_eq!(two.median(), Some(1.5));
        assert_eq!(Samples::default().median(), None);
    }
}
