//! A small writer of SVG elements.

use std::fmt::Write;

use crate::study::report::markup::{escape, trace};
use crate::study::report::view::Number;

/// How many colours there are before they repeat; the style sheet defines them.
const COLOURS: usize = 8;

/// The size of a plot in its own units. Text has 13 of them, so it stays readable on a phone.
pub const WIDTH: f64 = 480.0;
pub const HEIGHT: f64 = 300.0;

/// An SVG image that grows.
pub struct Svg(String);

impl Svg {
    pub fn new(label: &str) -> Svg {
        let label = escape(label);
        Svg(format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">"
        ))
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = write!(
            self.0,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A path through `points`.
    pub fn path(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let _ = write!(self.0, "<path class=\"{class}\" d=\"");
        for (i, (x, y)) in points.enumerate() {
            let _ = write!(self.0, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
        }
        self.0.push_str("\"/>");
    }

    /// A marker for `number`, which shows the number and `name` to a pointing device.
    pub fn marker(&mut self, class: &str, (x, y): (f64, f64), number: &Number, name: &str) {
        let _ = write!(
            self.0,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" {}><title>{}: \
            {}</title></circle>",
            trace(number),
            escape(name),
            escape(&number.with_interval())
        );
    }

    pub fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let text = escape(text);
        let _ = write!(
            self.0,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        );
    }

    pub fn end(mut self) -> String {
        self.0.push_str("</svg>");
        self.0
    }
}

/// The class of line or bar `i`.
pub fn colour(i: usize) -> String {
    format!("c{}", i % COLOURS)
}

/// The legend of lines with these names.
pub fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut html = "<ul class=\"legend\">".to_owned();
    for (i, name) in names.enumerate() {
        let (class, name) = (colour(i), escape(name));
        let _ = write!(
            html,
            "<li><svg class=\"key\" viewBox=\"0 0 24 10\" aria-hidden=\"true\"><line \
            class=\"stroke {class}\" x1=\"0\" y1=\"5\" x2=\"24\" y2=\"5\"/></svg>{name}</li>"
        );
    }
    html + "</ul>"
}
