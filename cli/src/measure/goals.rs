//! The performance goals of the project: a measured value against a limit.

use std::fmt;
use std::io::IsTerminal;

use serde::Serialize;

/// One goal.
#[derive(Debug, Serialize)]
pub struct Goal {
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

impl Goal {
    /// The goal that `value` is at most `limit`.
    pub fn at_most(
        what: impl Into<String>,
        limit: f64,
        unit: &'static str,
        value: Option<f64>,
    ) -> Goal {
        Goal::new(what.into(), Limit::AtMost(limit), unit, value)
    }

    /// The goal that `value` is at least `limit`.
    pub fn at_least(
        what: impl Into<String>,
        limit: f64,
        unit: &'static str,
        value: Option<f64>,
    ) -> Goal {
        Goal::new(what.into(), Limit::AtLeast(limit), unit, value)
    }

    fn new(what: String, limit: Limit, unit: &'static str, value: Option<f64>) -> Goal {
        Goal {
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

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Goal { what, unit, .. } = self;
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
    use super::Goal;

    #[test]
    fn says_the_value_and_the_verdict() {
        let goal = |value| Goal::at_most("lone pread", 1.15, "x plain", value).to_string();
        assert_eq!(
            goal(Some(1.07)),
            "bar: lone pread <= 1.15x plain: 1.07x plain ok"
        );
        assert_eq!(
            goal(Some(1.2)),
            "bar: lone pread <= 1.15x plain: 1.20x plain missed"
        );
        assert_eq!(goal(None), "bar: lone pread <= 1.15x plain: not measured");
        assert_eq!(
            Goal::at_least("IOPS", 0.97, "x", Some(1.0)).verdict(),
            Some(true)
        );
    }
}
