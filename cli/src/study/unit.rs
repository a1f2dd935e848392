//! Units of measured values, and how a value is shown to a reader.

use serde::{Deserialize, Serialize};

/// The unit of a value. Values are stored in the base unit and scaled only when they are shown.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Unit {
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "per second")]
    PerSecond,
    /// A value divided by another of the same unit.
    #[serde(rename = "x")]
    Ratio,
    /// A part of a whole, from 0 to 1; shown as a percentage.
    #[serde(rename = "share")]
    Share,
    /// A number of things.
    #[serde(rename = "count")]
    Count,
}

impl Unit {
    /// Formats `value` with the prefix that suits it: "1.2 us", "4 KiB", "118k per second".
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Nanoseconds => scaled(value, &[(1e9, " s"), (1e6, " ms"), (1e3, " us")], " ns"),
            Unit::Bytes => {
                const STEPS: [(f64, &str); 3] = [
                    (1073741824.0, " GiB"),
                    (1048576.0, " MiB"),
                    (1024.0, " KiB"),
                ];
                scaled(value, &STEPS, " B")
            }
            Unit::PerSecond => scaled(value, &[(1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s")], "/s"),
            Unit::Ratio => format!("{value:.2}x"),
            Unit::Share => format!("{} %", digits(value * 100.0)),
            Unit::Count => scaled(value, &[(1e9, "G"), (1e6, "M"), (1e4, "k")], ""),
        }
    }

    /// Formats a tick of an axis, which has no more digits than it needs.
    pub fn tick(self, value: f64) -> String {
        let text = self.show(value);
        match text.split_once('.') {
            Some((whole, rest)) => {
                let end = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                let part = rest[..end].trim_end_matches('0');
                let point = if part.is_empty() { "" } else { "." };
                format!("{whole}{point}{part}{}", &rest[end..])
            }
            None => text,
        }
    }
}

/// Divides `value` by the first step that is not larger, whose name becomes the suffix.
fn scaled(value: f64, steps: &[(f64, &str)], base: &str) -> String {
    for (step, name) in steps {
        // 999.6 would be shown as 1000.
        if value.abs() >= step * 0.9995 {
            return format!("{}{name}", digits(value / step));
        }
    }
    format!("{}{base}", digits(value))
}

/// Formats `value` with three significant digits, but never fewer than those before the point.
fn digits(value: f64) -> String {
    let places = match value.abs() {
        v if v == 0.0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.0995 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    match text.strip_suffix(".00").or_else(|| text.strip_suffix(".0")) {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::Unit;

    #[test]
    fn values_get_the_prefix_that_suits_them() {
        let cases = [
            (Unit::Nanoseconds, 812.4, "812 ns"),
            (Unit::Nanoseconds, 1234.0, "1.23 us"),
            (Unit::Nanoseconds, 999_700.0, "1 ms"),
            (Unit::Nanoseconds, 2.5e9, "2.50 s"),
            (Unit::Bytes, 4096.0, "4 KiB"),
            (Unit::Bytes, 1.0, "1 B"),
            (Unit::PerSecond, 118_234.0, "118k/s"),
            (Unit::Ratio, 1.0, "1.00x"),
            (Unit::Share, 0.931, "93.1 %"),
            (Unit::Count, 1024.0, "1024"),
        ];
        for (unit, value, text) in cases {
            assert_eq!(unit.show(value), text);
        }
        assert_eq!(Unit::Nanoseconds.tick(2500.0), "2.5 us");
        assert_eq!(Unit::Ratio.tick(1.0), "1x");
        assert_eq!(Unit::Bytes.tick(65536.0), "64 KiB");
    }
}
