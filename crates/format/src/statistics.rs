//! The statistics of the shim. Only this file knows the format of `AIOSHIM_STATS=json`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

/// Why a text is not the statistics of a run.
#[derive(Debug)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// The statistics of one run.
#[derive(Debug)]
pub struct Stats {
    /// The engine that executed operations, and why the better ones were not available.
    pub engine: String,
    /// One entry per libc name that was called on a fiber.
    pub calls: BTreeMap<String, Call>,
}

/// How often one libc name was called on fibers, by how the call was handled.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Calls that became an asynchronous operation.
    pub converted: u64,
    /// The part of `converted` that a pool thread executed.
    pub offloaded: u64,
    /// Calls that were completed at once, without waiting.
    pub inline: u64,
    /// Calls that passed through to libc, by reason.
    pub through: BTreeMap<String, u64>,
}

impl Call {
    /// The total number of calls.
    pub fn total(&self) -> u64 {
        self.converted + self.inline + self.through.values().sum::<u64>()
    }
}

impl Stats {
    /// Reads the file named by AIOSHIM_OUT.
    ///
    /// # Errors
    /// When it cannot be read, or is not JSON of this form.
    pub fn read(path: &Path) -> Result<Stats, Malformed> {
        let at = |e: &dyn fmt::Display| Malformed(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| at(&e))?;
        Stats::parse(&text).map_err(|e| at(&format!("{e}: {text}")))
    }

    /// The statistics in a file that may also contain log lines: the last line that is an object.
    pub fn line_of(text: &str) -> Option<&str> {
        text.lines().rev().find(|line| line.starts_with('{'))
    }

    /// Reads the JSON itself.
    ///
    /// # Errors
    /// When it is not JSON of this form.
    pub fn parse(text: &str) -> Result<Stats, Malformed> {
        let lacks = |what: &str| Malformed(format!("no {what}"));
        let value: Value = serde_json::from_str(text).map_err(|e| Malformed(e.to_string()))?;
        let calls = value["calls"]
            .as_object()
            .ok_or_else(|| lacks("object \"calls\""))?;
        let calls = calls
            .iter()
            .map(|(name, call)| (name.clone(), parse_call(call)))
            .collect();
        let engine = value["engine"]
            .as_str()
            .ok_or_else(|| lacks("string \"engine\""))?
            .to_owned();
        Ok(Stats { engine, calls })
    }

    /// The counts for `name`; all zero if it was not called.
    pub fn call(&self, name: &str) -> Call {
        self.calls.get(name).cloned().unwrap_or_default()
    }
}

fn parse_call(value: &Value) -> Call {
    let count = |v: &Value| v.as_u64().unwrap_or(0);
    let through = value["through"].as_object();
    Call {
        converted: count(&value["converted"]),
        offloaded: count(&value["offloaded"]),
        inline: count(&value["inline"]),
        through: through
            .into_iter()
            .flatten()
            .map(|(reason, n)| (reason.clone(), count(n)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_reasons() {
        let text = concat!(
            r#"{"engine": "io_uring", "calls": {"read": {"converted": 2, "offloaded": 1, "#,
            r#""inline": 1, "through": {"pipe": 3}, "p50_ns": 7}}}"#
        );
        let stats = Stats::parse(text).unwrap();
        assert_eq!(
            (stats.engine.as_str(), stats.call("read").offloaded),
            ("io_uring", 1)
        );
        assert_eq!(stats.call("read").total(), 6);
        assert_eq!(stats.call("read").through["pipe"], 3);
        assert_eq!(stats.call("write").total(), 0);
        assert!(Stats::parse("{}").is_err());
        let mixed = format!("aioshim: info: a line\n{text}\n");
        assert_eq!(Stats::line_of(&mixed), Some(text));
    }
}
