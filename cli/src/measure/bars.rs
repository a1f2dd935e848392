//! The performance goals of the project: a measured value against a limit.

use std::fmt;
use std::io::IsTerminal;

use serde::Serialize;

/// One goal.
#[derive(Debug, Serialize)]
pub struct Bar {
    /// The goal in words.
    what: String,
    limit: Limit,
    /// The unit printed after the figures: "x", " ns", " KiB".
    unit: &'static str,
    /// None if it could not be measured.
    value: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    /// The goal that `value` is at most `limit`.
    pub fn at_most(
        what: impl Into<String>,
        limit: f64,
        unit: &'static str,
        value: Option<f64>,
    ) -> Bar {
        Bar::new(what.into(), Limit::AtMost(limit), unit, value)
    }

    /// The goal that `value` is at least `limit`.
    pub fn at_least(
        what: impl Into<String>,
        limit: f64,
        unit: &'static str,
        value: Option<f64>,
    ) -> Bar {
        Bar::new(what.into(), Limit::AtLeast(limit), unit, value)
    }

    fn new(what: String, limit: Limit, unit: &'static str, value: Option<f64>) -> Bar {
        Bar {
            what,
            limit,
            unit,
            value,
        }
    }

    fn verdict(&self) -> Option<bool> {
        let value = self.value?;
        Some(match self.limit {
            Limit::AtMost(limit) => value <= limit,
            Limit::AtLeast(limit) => value >= limit,
        })
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bar { what, unit, .. } = self;
        match self.limit {
            Limit::AtMost(limit) => write!(f, "bar: {what} <= {limit:.2}{unit}: ")?,
            Limit::AtLeast(limit) => write!(f, "bar: {what} >= {limit:.2}{unit}: ")?,
        }
        match (self.value, self.verdict()) {
            (Some(value), Some(true)) => write!(f, "{value:.2}{unit} {}", painted("ok", "32")),
            (Some(value), _) => write!(f, "{value:.2}{unit} {}", painted("missed", "31")),
            (None, _) => write!(f, "not measured"),
        }
    }
}

/// Colours the word if stdout is a terminal, unless NO_COLOR is set.
fn painted(word: &str, colour: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || !std::io::stdout().is_terminal();
    if plain {
        word.to_owned()
    } else {
        format!("\x1b[{colour}m{word}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::Bar;

    #[test]
    fn says_the_value_and_the_verdict() {
        let bar = |value| Bar::at_most("lone pread", 1.15, "x plain", value).to_string();
        assert_eq!(
            bar(Some(1.07)),
            "bar: lone pread <= 1.15x plain: 1.07x plain ok"
        );
        assert_eq!(
            bar(Some(1.2)),
            "bar: lone pread <= 1.15x plain: 1.20x plain missed"
        );
        assert_eq!(bar(None), "bar: lone pread <= 1.15x plain: not measured");
        assert_eq!(
            Bar::at_least("IOPS", 0.97, "x", Some(1.0)).verdict(),
            Some(true)
        );
    }
}
