//! What a plot shows: a selection of the results, without any value of its own.
//!
//! A plot stands in the result file beside the results that it selects, so a report needs
//! only the file, and every point of a plot is a value in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell::Position;

/// A plot of one experiment's results.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plot {
    pub title: String,
    pub kind: Kind,
    /// The cells that take part: those at these positions.
    #[serde(default)]
    pub only: BTreeMap<String, Position>,
    /// The contenders that take part, in this order; all if empty.
    #[serde(default)]
    pub contenders: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A line per contender: the figure `y` over the axis `x`. If the positions on the axis are
    /// words, each word has a group of bars.
    Lines { x: String, y: String, log_y: bool },
    /// A bar for each cell: the figure of that name.
    Bars { figure: String, log: bool },
    /// The distribution of the latencies of each cell.
    Latency,
    /// A table of ratios, coloured by which one is better. `cells` are findings.
    Map {
        rows: String,
        columns: String,
        cells: Vec<MapCell>,
    },
}

/// One field of a map.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MapCell {
    pub row: String,
    pub column: String,
    /// The name of the finding with its ratio.
    pub finding: String,
}

impl Plot {
    /// The figure `y` over the axis `x`, which is logarithmic, as is the figure if `log_y`.
    pub fn lines(title: &str, x: &str, y: &str, log_y: bool) -> Plot {
        let kind = Kind::Lines {
            x: x.to_owned(),
            y: y.to_owned(),
            log_y,
        };
        Plot::new(title, kind)
    }

    /// A bar for each cell.
    pub fn bars(title: &str, figure: &str, log: bool) -> Plot {
        let kind = Kind::Bars {
            figure: figure.to_owned(),
            log,
        };
        Plot::new(title, kind)
    }

    /// The distributions of latencies.
    pub fn latency(title: &str) -> Plot {
        Plot::new(title, Kind::Latency)
    }

    /// A table of ratios, whose fields are named by `rows` and `columns`.
    pub fn map(title: &str, rows: &str, columns: &str, cells: Vec<MapCell>) -> Plot {
        let kind = Kind::Map {
            rows: rows.to_owned(),
            columns: columns.to_owned(),
            cells,
        };
        Plot::new(title, kind)
    }

    fn new(title: &str, kind: Kind) -> Plot {
        Plot {
            title: title.to_owned(),
            kind,
            only: BTreeMap::new(),
            contenders: Vec::new(),
        }
    }

    /// Selects the cells at this position of `axis`.
    #[must_use]
    pub fn only(mut self, axis: &str, position: impl Into<Position>) -> Plot {
        self.only.insert(axis.to_owned(), position.into());
        self
    }

    /// Selects these contenders.
    #[must_use]
    pub fn of(mut self, contenders: &[&str]) -> Plot {
        self.contenders = contenders.iter().map(|&name| name.to_owned()).collect();
        self
    }
}
