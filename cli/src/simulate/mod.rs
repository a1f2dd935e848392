//! `aioshim simulate`: what the calls of a trace would have cost under other policies, and under a
//! policy that never errs.
//!
//! A trace (`AIOSHIM_TRACE`, docs/policy.md) records for each call what was known and whether it
//! had to wait. The simulation replays it against the shim's own policy, using the same source
//! file, against policies that always do the same, and against an oracle that knows the outcome. A
//! cost model judges all of them. Nothing here is timed, so the same trace always gives the same
//! figures.

mod costs;
mod policies;
mod replay;
mod report;
mod row;
mod truth;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use costs::Costs;
use replay::Replay;

/// The traces to replay, and the costs to assume.
#[derive(Args)]
pub struct Options {
    /// Files written by AIOSHIM_TRACE
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Set a cost of the model, in nanoseconds (may be given several times); docs/policy.md lists
    /// the names
    #[arg(long = "cost", value_name = "NAME=NS")]
    costs: Vec<String>,
}

/// Replays the traces and prints the result.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut costs = Costs::default();
    for word in &options.costs {
        costs.set(word)?;
    }
    let mut replays = Vec::new();
    for path in &options.traces {
        let text =
            fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
        let mut rows =
            row::parse(&text).with_context(|| format!("{}: is not a trace", path.display()))?;
        // Each thread writes its rows when its buffer is full, so they are not in order.
        rows.sort_by_key(|row| row.at);
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        replays.push(Replay::of(name, &rows, &costs));
    }
    ensure!(
        replays.iter().any(|replay| replay.calls > 0),
        "no call in these traces leaves the policy a choice"
    );
    let report = report::Report::new(&replays, &costs);
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
