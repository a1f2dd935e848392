//! A study as a report sees it: records with their places in the result file, so that every number
//! knows where it stands there.

use crate::study::answer::{Direction, Finding};
use crate::study::file::{Record, Study};
use crate::study::results::{CellResults, Figure};
use crate::study::unit::Unit;

/// A number of the result file.
#[derive(Clone, Debug)]
pub struct Number {
    pub unit: Unit,
    pub value: f64,
    pub interval: Option<(f64, f64)>,
    pub direction: Option<Direction>,
    /// Its place in the result file, as a JSON pointer (RFC 6901).
    pub at: String,
}

impl Number {
    /// The number as text.
    pub fn text(&self) -> String {
        self.unit.show(self.value)
    }

    /// The number and its interval as text: "1.2 us (1.1 us to 1.3 us)".
    pub fn with_interval(&self) -> String {
        match self.interval {
            Some((low, high)) => format!(
                "{} ({} to {})",
                self.text(),
                self.unit.show(low),
                self.unit.show(high)
            ),
            None => self.text(),
        }
    }
}

/// One experiment.
#[derive(Clone)]
pub struct ExperimentView<'a> {
    pub record: &'a Record,
    /// The pointer to the record.
    at: String,
}

/// One cell of an experiment.
#[derive(Clone)]
pub struct CellView<'a> {
    pub results: &'a CellResults,
    at: String,
}

/// The experiments of `study`. `file` stands before each pointer; it is empty unless a report
/// shows several files.
pub fn experiments<'a>(study: &'a Study, file: &str) -> Vec<ExperimentView<'a>> {
    let records = study.experiments.iter().enumerate();
    let mut views: Vec<_> = records
        .map(|(i, record)| ExperimentView {
            record,
            at: format!("{file}/experiments/{i}"),
        })
        .collect();
    views.sort_by_key(|view| view.record.question);
    views
}

impl<'a> ExperimentView<'a> {
    /// The finding of that name, if it was measured.
    pub fn finding(&self, name: &str) -> Option<Number> {
        let finding: &Finding = self.record.answer.findings.get(name)?;
        Some(Number {
            unit: finding.unit,
            value: finding.value?,
            interval: finding.interval,
            direction: finding.direction,
            at: format!("{}/answer/findings/{}/value", self.at, token(name)),
        })
    }

    pub fn cells(&self) -> impl Iterator<Item = CellView<'a>> {
        let at = self.at.clone();
        let cells = self.record.cells.0.iter().enumerate();
        cells.map(move |(i, results)| CellView {
            results,
            at: format!("{at}/cells/{i}"),
        })
    }
}

impl CellView<'_> {
    /// The median of the figure of that name.
    pub fn median(&self, name: &str) -> Option<Number> {
        let figure: &Figure = self.results.figures.get(name)?;
        Some(Number {
            unit: figure.unit,
            value: figure.median,
            interval: figure.interval,
            direction: None,
            at: format!("{}/figures/{}/median", self.at, token(name)),
        })
    }

    /// The percentiles of its latencies that stand in the result file, with their percentages.
    pub fn percentiles(&self) -> Vec<(f64, Number)> {
        let Some(latency) = &self.results.latency else {
            return Vec::new();
        };
        let listed = crate::study::latency::PERCENTILES.iter().enumerate();
        listed
            .map(|(i, &percent)| {
                let number = Number {
                    unit: Unit::Nanoseconds,
                    value: latency.percentile(percent) as f64,
                    interval: None,
                    direction: None,
                    at: format!("{}/latency/percentiles/{i}/1", self.at),
                };
                (percent, number)
            })
            .collect()
    }
}

/// A name as a part of a JSON pointer.
fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
