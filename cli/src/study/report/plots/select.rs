//! Selects from the results what a plot shows.

use crate::study::cell::{Cell, Position};
use crate::study::plot::Plot;
use crate::study::report::view::{CellView, ExperimentView, Number};

/// A line of a plot.
pub struct Line {
    pub name: String,
    pub points: Vec<Point>,
}

/// A point of a line.
pub struct Point {
    /// The number on the x axis, if it is one.
    pub x: Option<f64>,
    pub label: String,
    pub y: Number,
}

/// The cells that `plot` shows, with names that tell them apart.
pub fn cells<'a>(plot: &Plot, experiment: &ExperimentView<'a>) -> Vec<(String, CellView<'a>)> {
    let at = |cell: &Cell| {
        plot.only
            .iter()
            .all(|(axis, position)| cell.at.get(axis) == Some(position))
    };
    let selected: Vec<CellView> = experiment
        .cells()
        .filter(|view| at(&view.results.cell))
        .collect();
    let mut named: Vec<(String, CellView)> = Vec::new();
    if plot.contenders.is_empty() {
        named.extend(selected.into_iter().map(|view| (String::new(), view)));
    } else {
        for contender in &plot.contenders {
            let theirs = selected
                .iter()
                .filter(|v| &v.results.cell.contender == contender);
            named.extend(theirs.map(|view| (String::new(), view.clone())));
        }
    }
    for (name, view) in &mut named {
        *name = name_of(&view.results.cell, plot, None);
    }
    named
}

/// A name made of the contender and the axes that the plot does not fix.
fn name_of(cell: &Cell, plot: &Plot, without: Option<&str>) -> String {
    let mut name = cell.contender.clone();
    for (axis, position) in &cell.at {
        if !plot.only.contains_key(axis) && without != Some(axis) {
            name.push_str(", ");
            name.push_str(&describe(axis, position));
        }
    }
    name
}

/// A position as a reader says it: "size 4 KiB", "cached".
fn describe(axis: &str, position: &Position) -> String {
    match position {
        Position::Word(word) => word.clone(),
        Position::Number(number) => format!("{axis} {}", super::scale::of_axis(axis).show(*number)),
    }
}

/// The lines of the figure `y` over the axis `x`.
pub fn lines(plot: &Plot, experiment: &ExperimentView, x: &str, y: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (_, view) in cells(plot, experiment) {
        let cell = &view.results.cell;
        let (Some(position), Some(number)) = (cell.at.get(x), view.median(y)) else {
            continue;
        };
        let name = name_of(cell, plot, Some(x));
        let point = Point {
            x: cell.number(x),
            label: match position {
                Position::Number(number) => super::scale::of_axis(x).tick(*number),
                Position::Word(word) => word.clone(),
            },
            y: number,
        };
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name,
                points: vec![point],
            }),
        }
    }
    for line in &mut lines {
        line.points
            .sort_by(|a, b| a.x.partial_cmp(&b.x).unwrap_or(std::cmp::Ordering::Equal));
    }
    lines
}

/// A bar for each cell that has the figure.
pub fn bars(plot: &Plot, experiment: &ExperimentView, figure: &str) -> Vec<(String, Number)> {
    cells(plot, experiment)
        .into_iter()
        .filter_map(|(name, view)| Some((name, view.median(figure)?)))
        .collect()
}
