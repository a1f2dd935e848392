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
    let drawn = match &plot.kind {
        Kind::Lines { x, y, log_y } => {
            let lines = select::lines(plot, experiment, x, y);
            if lines
                .iter()
                .all(|line| line.points.iter().all(|p| p.x.is_some()))
            {
                lines::draw(&lines, x, *log_y)
            } else {
                bars::grouped(&lines, *log_y)
            }
        }
        Kind::Bars { figure, log } => bars::draw(&select::bars(plot, experiment, figure), *log),
        Kind::Latency => distribution::draw(&select::cells(plot, experiment)),
        Kind::Map {
            rows,
            columns,
            cells,
        } => map::draw(rows, columns, cells, experiment),
    };
    if drawn.is_empty() {
        return drawn;
    }
    let title = super::markup::escape(&plot.title);
    let class = match plot.kind {
        Kind::Map { .. } => "wide",
        _ => "",
    };
    format!("<figure class=\"{class}\"><figcaption>{title}</figcaption>{drawn}</figure>\n")
}
