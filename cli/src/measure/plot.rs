//! Throughput and CPU over the number of readers, as one SVG file.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::throughput::{COUNTS, Case, Phase, Who};

const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(110, 110, 110)];

/// Writes `<dir>/throughput.svg`: above IOPS, beneath CPU a read; left O_DIRECT, right cold.
pub fn write(cases: &[Case], dir: &Path) -> Result<PathBuf> {
    let path = dir.join("throughput.svg");
    let root = SVGBackend::new(&path, (1100, 800)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let [left_above, right_above, left_below, right_below] =
        <[_; 4]>::try_from(root.split_evenly((2, 2))).map_err(|_| anyhow!("two times two are four"))?;
    let read = |direct| {
        cases
            .iter()
            .filter(move |case| case.direct == direct)
            .collect::<Vec<_>>()
    };
    let (direct, cold) = (read(true), read(false));
    // The more readers the more IOPS, and the less CPU: the legend is where no line goes.
    let (below, above) = (SeriesLabelPosition::LowerRight, SeriesLabelPosition::UpperMiddle);
    chart(&left_above, "O_DIRECT: IOPS", &direct, Phase::iops, below.clone()).map_err(|e| failed(&e))?;
    chart(&right_above, "cold page cache: IOPS", &cold, Phase::iops, below.clone()).map_err(|e| failed(&e))?;
    chart(
        &left_below,
        "O_DIRECT: CPU us a read",
        &direct,
        Phase::cpu_us_per_read,
        above.clone(),
    )
    .map_err(|e| failed(&e))?;
    chart(
        &right_below,
        "cold page cache: CPU us a read",
        &cold,
        Phase::cpu_us_per_read,
        above.clone(),
    )
    .map_err(|e| failed(&e))?;
    root.present().map_err(|e| failed(&e))?;
    drop((left_above, right_above, left_below, right_below, root));
    Ok(path)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// One figure over the number of readers, a line for each who read.
fn chart(
    area: &Area,
    title: &str,
    cases: &[&Case],
    figure: fn(&Phase) -> f64,
    legend: SeriesLabelPosition,
) -> Result<()> {
    let points = |who: Who| -> Vec<(f64, f64)> {
        let seen = cases
            .iter()
            .map(|case| (f64::from(case.count), case.of(who, figure).median()));
        seen.filter_map(|(count, value)| Some((count, value?))).collect()
    };
    let top = Who::ALL
        .iter()
        .flat_map(|&who| points(who))
        .map(|(_, value)| value)
        .fold(0.0, f64::max);
    let last = f64::from(*COUNTS.last().unwrap_or(&1));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d((1.0..last * 1.1).log_scale(), 0.0..(top * 1.1).max(1e-9))?;
    chart
        .configure_mesh()
        .x_desc("readers")
        .x_label_formatter(&|count| format!("{count:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for (who, colour) in Who::ALL.into_iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points(who), colour.stroke_width(2)).point_size(3))?
            .label(who.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(legend)
        .draw()?;
    Ok(())
}
