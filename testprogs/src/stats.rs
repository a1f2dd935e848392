//! What the shim counted: the one place that knows the shape of `AIOSHIM_STATS=json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The statistics of one run.
#[derive(Debug)]
pub struct Stats {
    /// What carried operations out, and why nothing better.
    pub engine: String,
    /// One for each libc name that was called on a fiber.
    pub calls: BTreeMap<String, Call>,
}

/// How often one libc name was called on fibers, by what became of the call.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Became an asynchronous operation.
    pub converted: u64,
    /// Of those, done by a thread of the pool.
    pub offloaded: u64,
    /// Was answered at once, without waiting.
    pub inline: u64,
    /// Went to libc as it was, by reason.
    pub through: BTreeMap<String, u64>,
}

impl Call {
    /// All of them.
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

    /// What became of the calls of `name`; nothing if there were none.
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
