//! Bars: one for each cell, with its name and its number.

use std::fmt::Write;

use super::select::Line;
use super::svg::colour;
use crate::study::report::markup::{escape, number as marked};
use crate::study::report::view::Number;

/// Draws a bar for each of `bars`. With `log`, the length is the logarithm.
pub fn draw(bars: &[(String, Number)], log: bool) -> String {
    let length = Length::over(bars.iter().map(|(_, number)| number), log);
    let mut html = "<div class=\"bars\">".to_owned();
    for (name, number) in bars {
        html += &row(name, number, &length, 0);
    }
    if bars.is_empty() {
        String::new()
    } else {
        html + "</div>"
    }
}

/// Draws lines over an axis of words: for each word, a bar for each line.
pub fn grouped(lines: &[Line], log: bool) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let length = Length::over(points().map(|point| &point.y), log);
    let mut words: Vec<&str> = Vec::new();
    for point in points() {
        if !words.contains(&point.label.as_str()) {
            words.push(&point.label);
        }
    }
    let mut html = String::new();
    for word in words {
        let _ = write!(
            html,
            "<p class=\"group\">{}</p><div class=\"bars\">",
            escape(word)
        );
        for (i, line) in lines.iter().enumerate() {
            if let Some(point) = line.points.iter().find(|point| point.label == word) {
                html += &row(&line.name, &point.y, &length, i);
            }
        }
        html += "</div>";
    }
    html
}

/// The length of a bar as a percentage.
struct Length {
    low: f64,
    high: f64,
    log: bool,
}

impl Length {
    fn over<'a>(numbers: impl Iterator<Item = &'a Number>, log: bool) -> Length {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for number in numbers {
            let (from, to) = number.interval.unwrap_or((number.value, number.value));
            low = low.min(if from > 0.0 { from } else { f64::INFINITY });
            high = high.max(to.max(number.value));
        }
        Length {
            // The shortest bar must be visible.
            low: low / 2.0,
            high,
            log: log && low.is_finite() && high > low,
        }
    }

    fn of(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else if self.high > 0.0 {
            value / self.high
        } else {
            0.0
        };
        100.0 * part.clamp(0.0, 1.0)
    }
}

fn row(name: &str, number: &Number, length: &Length, i: usize) -> String {
    let whisker = number.interval.map_or_else(String::new, |(low, high)| {
        format!(
            "<line class=\"error\" x1=\"{:.2}%\" x2=\"{:.2}%\" y1=\"7\" y2=\"7\"/>",
            length.of(low),
            length.of(high)
        )
    });
    format!(
        "<span class=\"name\">{}</span><svg class=\"bar\" height=\"14\" aria-hidden=\"true\"><rect \
        class=\"{}\" width=\"{:.2}%\" height=\"14\"/>{whisker}</svg>{}",
        escape(name),
        colour(i),
        length.of(number.value),
        marked(number)
    )
}
