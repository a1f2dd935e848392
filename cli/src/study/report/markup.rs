//! Text and numbers in HTML.

use super::view::Number;

/// Text in HTML, also between quotation marks.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The attributes that name the place of `number` in the result file.
pub fn trace(number: &Number) -> String {
    let (value, at) = (number.value, escape(&number.at));
    format!("data-value=\"{value}\" data-at=\"{at}\"")
}

/// A number that knows its place in the result file.
pub fn number(number: &Number) -> String {
    format!(
        "<span class=\"n\" {} title=\"{}\">{}</span>",
        trace(number),
        escape(&number.with_interval()),
        escape(&number.text())
    )
}
