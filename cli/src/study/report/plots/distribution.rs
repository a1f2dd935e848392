//! Distributions of latencies: the latency over the percentile, both logarithmic, so that the tail
//! is as wide as the middle.

use super::lines::{AREA, frame};
use super::scale::Scale;
use super::svg::{HEIGHT, Svg, colour, legend};
use crate::study::report::view::CellView;
use crate::study::unit::Unit;

/// The percentiles on the axis.
const TICKS: [f64; 6] = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99];

/// Draws the distribution of each of `cells`. Empty if none has one.
pub fn draw(cells: &[(String, CellView)]) -> String {
    let known: Vec<_> = cells
        .iter()
        .filter_map(|(name, view)| Some((name, view, view.results.latency.as_ref()?)))
        .filter(|(_, _, latency)| latency.count() > 0)
        .collect();
    if known.is_empty() {
        return String::new();
    }
    let (left, right, top, bottom) = AREA;
    let ends = known
        .iter()
        .flat_map(|(_, _, latency)| [1.0, 99.99].map(|percent| latency.percentile(percent) as f64));
    let up = Scale::over(ends, true, bottom, top).with_room();
    let rest = |percent: f64| 1.0 / (1.0 - percent / 100.0);
    let across = Scale::over([1.0, rest(99.99)].into_iter(), true, left, right - 16.0);

    let mut svg = Svg::new("latencies by percentile");
    frame(&mut svg, &up, Unit::Nanoseconds);
    for tick in TICKS {
        let x = across.position(rest(tick));
        svg.line("axis", (x, bottom), (x, bottom + 4.0));
        svg.text("label middle", (x, bottom + 19.0), &tick.to_string());
    }
    let middle = f64::midpoint(left, right);
    svg.text("label middle", (middle, HEIGHT - 6.0), "percentile");
    for (i, (name, view, latency)) in known.iter().enumerate() {
        let class = colour(i);
        // Steps of equal width, up to the percentile that a single latency makes.
        let most = (latency.count() as f64).min(rest(99.99));
        let steps = (0..=80).map(|n| most.powf(f64::from(n) / 80.0));
        let path = steps.map(|rest| {
            let value = latency.percentile(100.0 * (1.0 - 1.0 / rest)) as f64;
            (across.position(rest), up.position(value))
        });
        svg.path(&format!("stroke {class}"), path);
        for (percent, number) in view.percentiles() {
            if percent < 100.0 && rest(percent) <= most {
                let place = (across.position(rest(percent)), up.position(number.value));
                let name = format!("{name}, percentile {percent}");
                svg.marker(&format!("dot {class}"), place, &number, &name);
            }
        }
    }
    svg.end() + &legend(known.iter().map(|(name, ..)| name.as_str()))
}
