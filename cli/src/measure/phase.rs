//! One phase of a benchmark program: so many operations in so much time, and what they cost.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::live::{Hello, Live};

/// One phase, as crew.h tells it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Phase {
    pub operations: u64,
    pub ns: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub voluntary: u64,
    pub involuntary: u64,
    /// What the kernel charged the process with; none where it was not asked.
    pub device_bytes: Option<u64>,
    pub threads: u64,
    pub peak_rss_kib: u64,
    /// It ended before its time, because nothing was left to be done.
    pub exhausted: bool,
}

impl Phase {
    /// Runs `command`, which must say one phase and be what `meant` says.
    pub fn of(command: Command, name: &str, meant: Hello) -> Result<Phase> {
        let mut live = Live::start(command, name)?;
        let line = live.line()?;
        live.end()?;
        let context = || format!("{name}: said {line:?}");
        let hello: Hello = serde_json::from_str(&line).with_context(context)?;
        ensure!(hello == meant, "{name}: did not run as meant: {line}");
        let phase: Phase = serde_json::from_str(&line).with_context(context)?;
        ensure!(phase.operations > 0, "{name}: did nothing");
        Ok(phase)
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / (self.ns as f64 / 1e9)
    }

    /// Microseconds of CPU time, user's and system's, for one operation.
    pub fn cpu_us(&self) -> f64 {
        self.whole_cpu_us() / self.operations.max(1) as f64
    }

    /// The same for all.
    pub fn whole_cpu_us(&self) -> f64 {
        (self.user_us + self.system_us) as f64
    }

    /// How long it took.
    pub fn ms(&self) -> f64 {
        self.ns as f64 / 1e6
    }

    /// Context switches an operation.
    pub fn switches(&self) -> f64 {
        (self.voluntary + self.involuntary) as f64 / self.operations.max(1) as f64
    }
}
