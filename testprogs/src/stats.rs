//! The statistics of the shim. Only this file knows the format of `AIOSHIM_STATS=json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

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
    pub fn read(path: &Path) -> Result<Stats> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        Stats::parse(&text).with_context(|| format!("{}: {text}", path.display()))
    }

    /// Reads the JSON itself.
    pub fn parse(text: &str) -> Result<Stats> {
        let value: Value = serde_json::from_str(text)?;
        let calls = value["calls"].as_object().context("no object \"calls\"")?;
        let calls = calls
            .iter()
            .map(|(name, call)| (name.clone(), parse_call(call)))
            .collect();
        let engine = value["engine"]
            .as_str()
            .context("no string \"engine\"")?
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
        let text = r#"{"engine": "io_uring", "calls": {"read": {"converted": 2, "offloaded": 1, "inline": 1, "through": {"pipe": 3}, "p50_ns": 7}}}"#;
        let stats = Stats::parse(text).unwrap();
        assert_eq!(
            (stats.engine.as_str(), stats.call("read").offloaded),
            ("io_uring", 1)
        );
        assert_eq!(stats.call("read").total(), 6);
        assert_eq!(stats.call("read").through["pipe"], 3);
        assert_eq!(stats.call("write").total(), 0);
        assert!(Stats::parse("{}").is_err());
    }
}
