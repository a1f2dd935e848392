//! Draws panels of lines over a common axis into one SVG file.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
];

/// The line of one participant.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One figure over the common axis, with a line per participant.
pub struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
    /// A position where no line runs.
    pub legend: SeriesLabelPosition,
}

/// The axis that all panels share.
#[derive(Clone, Copy)]
pub struct Axis {
    pub title: &'static str,
    pub last: f64,
    /// A logarithmic axis starts at 1, a linear axis at 0.
    pub logarithmic: bool,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes `panels` to `path`, with `columns` panels per row.
pub fn write(path: &Path, axis: Axis, columns: usize, panels: &[Panel]) -> Result<PathBuf> {
    let rows = panels.len().div_ceil(columns);
    let size = (550 * u32::try_from(columns)?, 400 * u32::try_from(rows)?);
    let root = SVGBackend::new(path, size).into_drawing_area();
    let drawn = || -> Result<()> {
        root.fill(&WHITE)?;
        for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
            draw(area, axis, panel)?;
        }
        root.present()?;
        Ok(())
    };
    drawn().map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(path.to_owned())
}

fn draw(area: &Area, axis: Axis, panel: &Panel) -> Result<()> {
    let values = panel.lines.iter().flat_map(|line| &line.points);
    let top = values.map(|&(_, value)| value).fold(0.0, f64::max);
    let above = 0.0..(top * 1.1).max(1e-9);
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(&panel.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70);
    // The two kinds of axis have different types, but are filled by the same function.
    if axis.logarithmic {
        let chart = builder.build_cartesian_2d((1.0..axis.last * 1.1).log_scale(), above)?;
        fill(chart, axis, panel)
    } else {
        let chart = builder.build_cartesian_2d(0.0..axis.last * 1.05, above)?;
        fill(chart, axis, panel)
    }
}

type Chart<'a, 'b, X> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, plotters::coord::types::RangedCoordf64>>;

fn fill<'a, 'b: 'a, X>(mut chart: Chart<'a, 'b, X>, axis: Axis, panel: &Panel) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc(axis.title)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for (line, colour) in panel.lines.iter().zip(COLOURS.into_iter().cycle()) {
        chart
            .draw_series(
                LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(panel.legend.clone())
        .draw()?;
    Ok(())
}
