//! Cells are the units of measurement of an experiment; a sample is one measurement of a cell.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::unit::Unit;

/// A contender at a point of the axes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cell {
    pub contender: String,
    pub at: BTreeMap<String, Position>,
}

impl Cell {
    /// A cell of `contender` without axes.
    pub fn of(contender: impl Into<String>) -> Cell {
        Cell {
            contender: contender.into(),
            at: BTreeMap::new(),
        }
    }

    /// Sets the position on `axis`, for example `size`, `cache`, `depth` or `latency`.
    #[must_use]
    pub fn at(mut self, axis: &str, position: impl Into<Position>) -> Cell {
        self.at.insert(axis.to_owned(), position.into());
        self
    }

    /// The number at which it is on `axis`, or `None` if there is a word or no such axis.
    pub fn number(&self, axis: &str) -> Option<f64> {
        match self.at.get(axis)? {
            Position::Number(number) => Some(*number),
            Position::Word(_) => None,
        }
    }

    /// The word at which it is on `axis`; empty if there is a number or no such axis.
    pub fn word(&self, axis: &str) -> &str {
        match self.at.get(axis) {
            Some(Position::Word(word)) => word,
            _ => "",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.contender)?;
        self.at
            .iter()
            .try_for_each(|(axis, position)| write!(f, ", {axis} {position}"))
    }
}

/// A position on an axis.
#[derive(Clone, Debug, Deserialize, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Position {
    Number(f64),
    Word(String),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Number(number) => write!(f, "{number}"),
            Position::Word(word) => write!(f, "{word}"),
        }
    }
}

impl From<f64> for Position {
    fn from(number: f64) -> Position {
        Position::Number(number)
    }
}

impl From<u32> for Position {
    fn from(number: u32) -> Position {
        Position::Number(f64::from(number))
    }
}

impl From<&str> for Position {
    fn from(word: &str) -> Position {
        Position::Word(word.to_owned())
    }
}

/// What one measurement of a cell gives.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub figures: Vec<(&'static str, Unit, f64)>,
    pub latency: Option<Latency>,
}

impl Sample {
    /// A sample with one figure, for example `time to return`.
    pub fn of(name: &'static str, unit: Unit, value: f64) -> Sample {
        Sample::default().and(name, unit, value)
    }

    /// Adds another figure of the same measurement.
    #[must_use]
    pub fn and(mut self, name: &'static str, unit: Unit, value: f64) -> Sample {
        self.figures.push((name, unit, value));
        self
    }

    /// Adds the distribution of the latencies that the measurement saw.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency) -> Sample {
        self.latency = Some(latency);
        self
    }
}
