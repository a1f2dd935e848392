//! Lines over an axis of numbers.

use super::scale::{Scale, of_axis};
use super::select::Line;
use super::svg::{HEIGHT, Svg, WIDTH, colour, legend};
use crate::study::unit::Unit;

const LEFT: f64 = 66.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = HEIGHT - 44.0;

/// The labels on the x axis must be this far apart.
const LABEL: f64 = 52.0;

/// Draws `lines` over the axis `x`. Empty without points.
pub fn draw(lines: &[Line], x: &str, log_y: bool) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let Some(unit) = points().map(|point| point.y.unit).next() else {
        return String::new();
    };
    let xs = || points().filter_map(|point| point.x);
    let (low, high) = xs().fold((f64::INFINITY, 0.0_f64), |(l, h), x| (l.min(x), h.max(x)));
    let across = Scale::over(
        xs(),
        low > 0.0 && high / low > 8.0,
        LEFT + 12.0,
        RIGHT - 12.0,
    );
    let ends = points().flat_map(|point| match point.y.interval {
        Some((low, high)) => [low, high],
        None => [point.y.value; 2],
    });
    let up = Scale::over(ends, log_y, BOTTOM, TOP).with_room();

    let mut svg = Svg::new(&format!("over {x}"));
    frame(&mut svg, &up, unit);
    labels(&mut svg, lines, &across);
    svg.text(
        "label middle",
        (f64::midpoint(LEFT, RIGHT), HEIGHT - 6.0),
        &axis_name(x),
    );
    for (i, line) in lines.iter().enumerate() {
        let class = colour(i);
        let place = |x: Option<f64>, y| (across.position(x.unwrap_or(low)), up.position(y));
        let path = line.points.iter().map(|p| place(p.x, p.y.value));
        svg.path(&format!("stroke {class}"), path);
        for point in &line.points {
            if let Some((low, high)) = point.y.interval {
                let (from, to) = (place(point.x, low), place(point.x, high));
                svg.line(&format!("whisker {class}"), from, to);
            }
            let name = format!("{}, {x} {}", line.name, point.label);
            let class = format!("dot {class}");
            svg.marker(&class, place(point.x, point.y.value), &point.y, &name);
        }
    }
    let names = lines.iter().map(|line| line.name.as_str());
    svg.end() + &legend(names)
}

fn axis_name(x: &str) -> String {
    match (x, of_axis(x)) {
        ("count", _) => "how many".to_owned(),
        _ => x.to_owned(),
    }
}

/// The lines and labels of the y axis.
pub fn frame(svg: &mut Svg, up: &Scale, unit: Unit) {
    for tick in up.ticks(unit) {
        let y = up.position(tick);
        svg.line("grid", (LEFT, y), (RIGHT, y));
        svg.text("label end", (LEFT - 6.0, y + 4.5), &unit.tick(tick));
    }
    svg.line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
}

/// The labels of the x axis: the positions that were measured, unless they are too close.
fn labels(svg: &mut Svg, lines: &[Line], across: &Scale) {
    let mut marks: Vec<(f64, &str)> = lines
        .iter()
        .flat_map(|line| &line.points)
        .filter_map(|point| Some((across.position(point.x?), point.label.as_str())))
        .collect();
    marks.sort_by(|a, b| a.0.total_cmp(&b.0));
    marks.dedup();
    let mut last = f64::NEG_INFINITY;
    for (x, label) in marks {
        if x - last >= LABEL {
            svg.line("axis", (x, BOTTOM), (x, BOTTOM + 4.0));
            svg.text("label middle", (x, BOTTOM + 19.0), label);
            last = x;
        }
    }
}

/// The area of a plot: left, right, top and bottom.
pub const AREA: (f64, f64, f64, f64) = (LEFT, RIGHT, TOP, BOTTOM);
