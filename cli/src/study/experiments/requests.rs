//! Runs bench/requests.c: requests of one read and some work, by fibers or threads.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::bench::Bench;
use crate::bench::call_stats::{self, CallCounts};
use crate::bench::live::{Hello, Live};
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::study::cell::Sample;
use crate::study::latency::Latency;
use crate::study::unit::Unit;

/// Who makes the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Fibers on this number of OS threads, preloaded.
    Fibers {
        workers: u32,
    },
    Threads,
}

/// The arguments of one run.
#[derive(Clone, Copy, Debug)]
pub struct Requests<'a> {
    pub by: By,
    pub count: u32,
    pub processors: u32,
    pub ms: u64,
    pub bytes: u64,
    /// "cached", "cold" or "direct".
    pub cache: &'static str,
    /// Iterations of the loop of work after each read.
    pub turns: u64,
    pub file: &'a Path,
}

/// What one run tells.
pub struct Told {
    pub phase: Phase,
    pub latency: Latency,
    pub memory_bytes: u64,
    pub kernel_stack_bytes: u64,
}

/// The second line of its output.
#[derive(Deserialize)]
struct Second {
    memory_bytes: u64,
    kernel_stack_bytes: u64,
    latencies: Vec<(u64, u64)>,
}

impl Requests<'_> {
    fn command(&self, bench: &Bench) -> std::process::Command {
        let (kind, workers, load) = match self.by {
            By::Fibers { workers } => ("fibers", workers, Load::Shim),
            By::Threads => ("pthreads", 1, Load::Plain),
        };
        let mut command = bench.programs.command(&bench.programs.requests, load);
        command.args([
            kind,
            &self.count.to_string(),
            &workers.to_string(),
            &self.processors.to_string(),
            &self.ms.to_string(),
            &self.bytes.to_string(),
            self.cache,
            &self.turns.to_string(),
        ]);
        command.arg(self.file);
        command
    }

    /// Runs it once.
    pub fn run(&self, bench: &Bench) -> Result<Told> {
        let on_fibers = matches!(self.by, By::Fibers { .. });
        let meant = Hello {
            preloaded: on_fibers,
            fiber: on_fibers,
        };
        let mut live = Live::start(self.command(bench), "requests")?;
        let (first, second) = (live.line()?, live.line()?);
        live.end()?;
        let phase = Phase::parse(&first, "requests", meant)?;
        let told: Second = serde_json::from_str(&second)
            .with_context(|| format!("requests: unexpected output {second:?}"))?;
        let mut latency = Latency::new();
        for (ns, count) in told.latencies {
            latency.add(ns, count);
        }
        Ok(Told {
            phase,
            latency,
            memory_bytes: told.memory_bytes,
            kernel_stack_bytes: told.kernel_stack_bytes,
        })
    }

    /// What the shim did with the reads, in a run that is not measured.
    pub fn policy(&self, bench: &Bench) -> Result<CallCounts> {
        call_stats::of_run(bench, self.command(bench), "check of requests", "pread")
    }
}

impl Told {
    /// The figures that every experiment keeps.
    pub fn sample(self) -> Sample {
        let percentile = |percent| self.latency.percentile(percent) as f64;
        Sample::of("rate", Unit::PerSecond, self.phase.rate())
            .and("CPU time", Unit::Nanoseconds, 1000.0 * self.phase.cpu_us())
            .and("p50", Unit::Nanoseconds, percentile(50.0))
            .and("p99", Unit::Nanoseconds, percentile(99.0))
            .and("p99.9", Unit::Nanoseconds, percentile(99.9))
            .and("switches", Unit::Count, self.phase.switches())
            .with_latency(self.latency)
    }
}
