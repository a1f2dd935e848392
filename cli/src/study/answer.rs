//! What an experiment says: a sentence with figures, and plots.
//!
//! A sentence names its figures in braces: "A cached read of 4 KiB takes {cached}". The findings
//! hold the figures, so every number in a report is a value in the result file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::estimate::Estimate;
use super::plot::Plot;
use super::unit::Unit;

/// The answer of one experiment.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Answer {
    /// One or two sentences. `{name}` stands for the finding of that name.
    pub sentence: String,
    pub findings: BTreeMap<String, Finding>,
    pub plots: Vec<Plot>,
    /// The sentences that it contributes to the verdict of the study, with the same findings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdict: Vec<String>,
}

/// A figure that a sentence names.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Finding {
    pub unit: Unit,
    /// `None` if it could not be measured.
    pub value: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// For a ratio that compares asynchronous with blocking I/O: which one is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// Which of two is better.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Asynchronous I/O is better by more than the interval of the ratio.
    AsyncWins,
    AsyncLoses,
    /// The interval of the ratio includes 1, or the difference is below 3 %.
    NoDifference,
}

/// Whether a ratio above 1 is good for its numerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// Smaller differences are not worth a decision.
const MATTERS: f64 = 0.03;

/// The sides of 1 on which a ratio may lie as far as its interval says: clearly below, so near that
/// the difference does not matter, and clearly above.
pub fn possible_sides(value: f64, interval: Option<(f64, f64)>) -> [bool; 3] {
    let (low, high) = interval.unwrap_or((value, value));
    let (below, above) = (1.0 - MATTERS, 1.0 + MATTERS);
    [low <= below, low < above && high > below, high >= above]
}

impl Direction {
    /// Judges the ratio of asynchronous to blocking I/O.
    pub fn of(ratio: &Estimate, better: Better) -> Direction {
        let (low, high) = ratio.interval.unwrap_or((ratio.value, ratio.value));
        let above = low > 1.0 && ratio.value >= 1.0 + MATTERS;
        let below = high < 1.0 && ratio.value <= 1.0 - MATTERS;
        match (above, below, better) {
            (true, _, Better::Higher) | (_, true, Better::Lower) => Direction::AsyncWins,
            (true, _, Better::Lower) | (_, true, Better::Higher) => Direction::AsyncLoses,
            _ => Direction::NoDifference,
        }
    }
}

impl Answer {
    pub fn new(sentence: impl Into<String>) -> Answer {
        Answer {
            sentence: sentence.into(),
            ..Answer::default()
        }
    }

    /// Sets the figure for `{name}`. Without an estimate, the sentence says "not measured" there.
    #[must_use]
    pub fn with(mut self, name: &str, estimate: Option<Estimate>) -> Answer {
        self.findings
            .insert(name.to_owned(), Finding::new(estimate, None));
        self
    }

    /// Sets the figure for `{name}`, the ratio of asynchronous to blocking I/O, and judges it.
    #[must_use]
    pub fn judged(mut self, name: &str, ratio: Option<Estimate>, better: Better) -> Answer {
        self.findings
            .insert(name.to_owned(), Finding::new(ratio, Some(better)));
        self
    }

    /// Adds a sentence to the verdict of the study.
    #[must_use]
    pub fn verdict(mut self, sentence: impl Into<String>) -> Answer {
        self.verdict.push(sentence.into());
        self
    }

    #[must_use]
    pub fn plot(mut self, plot: Plot) -> Answer {
        self.plots.push(plot);
        self
    }
}

impl Finding {
    fn new(estimate: Option<Estimate>, better: Option<Better>) -> Finding {
        Finding {
            unit: estimate.map_or(Unit::Count, |estimate| estimate.unit),
            value: estimate.map(|estimate| estimate.value),
            interval: estimate.and_then(|estimate| estimate.interval),
            direction: estimate
                .zip(better)
                .map(|(estimate, better)| Direction::of(&estimate, better)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Better, Direction};
    use crate::study::estimate::Estimate;
    use crate::study::unit::Unit;

    #[test]
    fn a_direction_needs_the_whole_interval() {
        let ratio = |value, interval| Estimate {
            unit: Unit::Ratio,
            value,
            interval,
        };
        let cases = [
            (1.5, Some((1.2, 1.8)), Direction::AsyncWins),
            (1.5, Some((0.9, 1.8)), Direction::NoDifference),
            (1.02, Some((1.01, 1.03)), Direction::NoDifference),
            (0.5, Some((0.4, 0.6)), Direction::AsyncLoses),
            (2.0, None, Direction::AsyncWins),
        ];
        for (value, interval, direction) in cases {
            assert_eq!(
                Direction::of(&ratio(value, interval), Better::Higher),
                direction
            );
        }
        let lower = Direction::of(&ratio(0.5, None), Better::Lower);
        assert_eq!(lower, Direction::AsyncWins);
    }
}
