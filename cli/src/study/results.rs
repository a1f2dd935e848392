//! The results of one experiment, and how its answer finds figures in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell::{Cell, Position, Sample};
use super::estimate::Estimate;
use super::latency::Latency;
use super::unit::Unit;

/// All rounds of all cells.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Results(pub Vec<CellResults>);

/// All rounds of one cell.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CellResults {
    #[serde(flatten)]
    pub cell: Cell,
    /// Why it is not measured any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The figures by name.
    pub figures: BTreeMap<String, Figure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// One figure of a cell.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    pub unit: Unit,
    pub median: f64,
    /// The bootstrap interval of the median, 95 %.
    pub interval: Option<(f64, f64)>,
    /// One value per round, `null` for a round without one.
    pub samples: Vec<Option<f64>>,
}

/// A point of the axes: names and positions. A cell is at the point if it has all of them; it may
/// have others.
pub type Point<'a> = &'a [(&'a str, Position)];

impl Results {
    /// The first cell of `contender` at `point`.
    pub fn cell(&self, contender: &str, point: Point) -> Option<&CellResults> {
        self.0
            .iter()
            .find(|c| c.cell.contender == contender && c.is_at(point))
    }

    /// The positions of all cells on `axis`, each once, in the order of the cells.
    pub fn positions(&self, axis: &str) -> Vec<Position> {
        let mut positions: Vec<Position> = Vec::new();
        for position in self.0.iter().filter_map(|c| c.cell.at.get(axis)) {
            if !positions.contains(position) {
                positions.push(position.clone());
            }
        }
        positions
    }

    /// The median of `figure` of `contender` at `point`.
    pub fn estimate(&self, contender: &str, point: Point, figure: &str) -> Option<Estimate> {
        let figure = self.cell(contender, point)?.figures.get(figure)?;
        Some(Estimate {
            unit: figure.unit,
            value: figure.median,
            interval: figure.interval,
        })
    }

    /// The ratio of `contender` to `base` at `point`: the median of the ratios within the rounds
    /// that have both.
    pub fn ratio(
        &self,
        contender: &str,
        base: &str,
        point: Point,
        figure: &str,
    ) -> Option<Estimate> {
        let (cell, base) = (self.cell(contender, point)?, self.cell(base, point)?);
        ratio(cell.figures.get(figure)?, base.figures.get(figure)?)
    }
}

/// The ratio of `figure` to `base`: the median of the ratios within the rounds that have both.
pub fn ratio(figure: &Figure, base: &Figure) -> Option<Estimate> {
    let ratios: Vec<f64> = figure
        .samples
        .iter()
        .zip(&base.samples)
        .filter_map(|(of, to)| of.zip(*to))
        .filter(|(_, to)| *to != 0.0)
        .map(|(of, to)| of / to)
        .collect();
    Estimate::of(Unit::Ratio, &ratios)
}

impl CellResults {
    pub fn new(cell: Cell) -> CellResults {
        CellResults {
            cell,
            failure: None,
            figures: BTreeMap::new(),
            latency: None,
        }
    }

    /// Whether the cell has all positions of `point`.
    pub fn is_at(&self, point: Point) -> bool {
        point
            .iter()
            .all(|(axis, position)| self.cell.at.get(*axis) == Some(position))
    }

    /// Adds the sample of round `round`, which counts from 0.
    pub fn add(&mut self, round: usize, sample: Sample) {
        for (name, unit, value) in sample.figures {
            let figure = self.figures.entry(name.to_owned()).or_insert(Figure {
                unit,
                median: value,
                interval: None,
                samples: Vec::new(),
            });
            figure.samples.resize(round, None);
            figure.samples.push(Some(value));
        }
        if let Some(latency) = sample.latency {
            match &mut self.latency {
                Some(all) => all.merge(&latency),
                none => *none = Some(latency),
            }
        }
    }

    /// Computes the medians and their intervals, after samples were added.
    pub fn summarise(&mut self) {
        for figure in self.figures.values_mut() {
            let samples: Vec<f64> = figure.samples.iter().flatten().copied().collect();
            if let Some(estimate) = Estimate::of(figure.unit, &samples) {
                figure.median = estimate.value;
                figure.interval = estimate.interval;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CellResults, Results};
    use crate::study::cell::{Cell, Sample};
    use crate::study::unit::Unit;

    #[test]
    fn a_ratio_compares_rounds_that_have_both() {
        let mut results = Results::default();
        for (name, values) in [("a", [2.0, 30.0, 4.0]), ("b", [1.0, 10.0, 1.0])] {
            let mut cell = CellResults::new(Cell::of(name).at("size", 4096));
            for (round, value) in values.into_iter().enumerate() {
                if (name, round) != ("b", 2) {
                    cell.add(round, Sample::of("time", Unit::Nanoseconds, value));
                }
            }
            cell.summarise();
            results.0.push(cell);
        }
        let point = [("size", 4096.into())];
        let ratio = results.ratio("a", "b", &point, "time").expect("both");
        assert_eq!(ratio.value, 2.5);
        let a = results.estimate("a", &point, "time").expect("a");
        assert_eq!((a.value, a.unit), (4.0, Unit::Nanoseconds));
        assert!(
            results
                .estimate("a", &[("size", 1.into())], "time")
                .is_none()
        );
    }
}
