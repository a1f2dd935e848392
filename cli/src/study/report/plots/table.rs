//! The same selection as a plot, as a table of text.

use super::map::unique;
use super::{Kind, Plot, select};
use crate::study::report::view::{ExperimentView, Number};

/// A table of text.
pub struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// The table of `plot`, or `None` if nothing that it selects was measured.
pub fn table(plot: &Plot, experiment: &ExperimentView) -> Option<Table> {
    let table = match &plot.kind {
        Kind::Lines { x, y, .. } => lines(x, &select::lines(plot, experiment, x, y)),
        Kind::Bars { figure, .. } => {
            let row = |(name, number): (String, Number)| vec![name, number.with_interval()];
            let bars = select::bars(plot, experiment, figure);
            Table {
                head: vec!["by".to_owned(), figure.clone()],
                rows: bars.into_iter().map(row).collect(),
            }
        }
        Kind::Latency => {
            let mut head = vec!["by".to_owned()];
            let mut rows = Vec::new();
            for (name, view) in select::cells(plot, experiment) {
                let percentiles = view.percentiles();
                if rows.is_empty() {
                    head.extend(percentiles.iter().map(|(percent, _)| format!("p{percent}")));
                }
                let texts = percentiles.iter().map(|(_, number)| number.text());
                rows.push(std::iter::once(name).chain(texts).collect());
            }
            Table { head, rows }
        }
        Kind::Map {
            rows,
            columns,
            cells,
        } => {
            let across = unique(cells.iter().map(|cell| cell.column.as_str()));
            let mut head = vec![format!("{rows} / {columns}")];
            head.extend(across.iter().map(|&name| name.to_owned()));
            let row = |name: &str| {
                let field = |column: &&str| {
                    let cell = cells.iter().find(|c| c.row == name && c.column == *column);
                    let number = cell.and_then(|cell| experiment.finding(&cell.finding));
                    number.map_or_else(|| "-".to_owned(), |number| number.text())
                };
                let fields = across.iter().map(field);
                std::iter::once(name.to_owned()).chain(fields).collect()
            };
            let down = unique(cells.iter().map(|cell| cell.row.as_str()));
            Table {
                head,
                rows: down.into_iter().map(row).collect(),
            }
        }
    };
    (!table.rows.is_empty()).then_some(table)
}

fn lines(x: &str, lines: &[select::Line]) -> Table {
    let points = || lines.iter().flat_map(|line| &line.points);
    let mut labels: Vec<(Option<f64>, &str)> = Vec::new();
    for point in points() {
        if !labels.contains(&(point.x, &point.label)) {
            labels.push((point.x, &point.label));
        }
    }
    labels.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
    let row = |(_, label): (Option<f64>, &str)| {
        let at = |line: &select::Line| {
            let point = line.points.iter().find(|point| point.label == label);
            point.map_or_else(|| "-".to_owned(), |point| point.y.text())
        };
        std::iter::once(label.to_owned())
            .chain(lines.iter().map(at))
            .collect()
    };
    let names = lines.iter().map(|line| line.name.clone());
    Table {
        head: std::iter::once(x.to_owned()).chain(names).collect(),
        rows: labels.into_iter().map(row).collect(),
    }
}
