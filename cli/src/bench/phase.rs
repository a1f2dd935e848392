//! One phase of a benchmark program: the number of operations, the time, and their cost.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::live::{Hello, Live};

/// One phase, as workload.h prints it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Phase {
    pub operations: u64,
    pub ns: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub voluntary: u64,
    pub involuntary: u64,
    /// The bytes that the kernel charged to the process as I/O, or `None` if that was not measured.
    pub device_bytes: Option<u64>,
    pub threads: u64,
    pub peak_rss_kib: u64,
    /// Whether it ended before its time because no work was left.
    pub exhausted: bool,
}

impl Phase {
    /// Runs `command`, which must print one phase and run in the mode `meant`.
    pub fn of(command: Command, name: &str, meant: Hello) -> Result<Phase> {
        let mut live = Live::start(command, name)?;
        let line = live.line()?;
        live.end()?;
        Phase::parse(&line, name, meant)
    }

    /// Reads a line that `name` printed, which must have run in the mode `meant`.
    pub fn parse(line: &str, name: &str, meant: Hello) -> Result<Phase> {
        let context = || format!("{name}: unexpected output {line:?}");
        let hello: Hello = serde_json::from_str(line).with_context(context)?;
        ensure!(hello == meant, "{name}: ran in the wrong mode: {line}");
        let phase: Phase = serde_json::from_str(line).with_context(context)?;
        ensure!(phase.operations > 0, "{name}: completed no operation");
        Ok(phase)
    }

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / (self.ns as f64 / 1e9)
    }

    /// CPU time per operation in microseconds, user and system.
    pub fn cpu_us(&self) -> f64 {
        self.whole_cpu_us() / self.operations.max(1) as f64
    }

    /// CPU time of the whole phase in microseconds.
    pub fn whole_cpu_us(&self) -> f64 {
        (self.user_us + self.system_us) as f64
    }

    /// The duration in milliseconds.
    pub fn ms(&self) -> f64 {
        self.ns as f64 / 1e6
    }

    /// Context switches per operation.
    pub fn switches(&self) -> f64 {
        (self.voluntary + self.involuntary) as f64 / self.operations.max(1) as f64
    }
}
