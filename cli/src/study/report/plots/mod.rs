//! Plots as inline SVG and HTML. Colours are CSS variables, so a plot follows the reader's theme.

mod bars;
mod distribution;
mod lines;
mod map;
mod scale;
mod select;
mod svg;
mod table;

pub use table::{Table, table};

use super::view::ExperimentView;
use crate::study::plot::{Kind, Plot};

/// Draws `plot` as a figure element. Empty if nothing that it selects was measured.
pub fn draw(plot: &Plot, experiment: &ExperimentView) -> String {
    let (drawn, remark) = match &plot.kind {
        Kind::Lines { x, y, log_y } => {
            let lines = select::lines(plot, experiment, x, y);
            let mut points = lines.iter().flat_map(|line| &line.points);
            if points.all(|point| point.x.is_some()) {
                (lines::draw(&lines, x, *log_y), "")
            } else {
                (bars::grouped(&lines, *log_y), length(*log_y))
            }
        }
        Kind::Bars { figure, log } => {
            let bars = select::bars(plot, experiment, figure);
            (bars::draw(&bars, *log), length(*log))
        }
        Kind::Latency => (distribution::draw(&select::cells(plot, experiment)), ""),
        Kind::Map {
            rows,
            columns,
            cells,
        } => (map::draw(rows, columns, cells, experiment), ""),
    };
    if drawn.is_empty() {
        return drawn;
    }
    let title = super::markup::escape(&plot.title);
    format!("<figure><figcaption>{title}{remark}</figcaption>{drawn}</figure>\n")
}

/// The scale of bars, unless it is linear.
fn length(log: bool) -> &'static str {
    if log { " (logarithmic bars)" } else { "" }
}
