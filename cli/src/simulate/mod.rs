//! `aioshim simulate`: what the calls of a trace would have cost under other policies, and under
//! none that errs.
//!
//! A trace (`AIOSHIM_TRACE`, docs/policy.md) says of each call what was known and whether it had to
//! wait. The shim's own policy, the very source, is asked again; so are policies that always do the
//! same, and an oracle that knows the outcome. A model of costs judges them all: nothing here is
//! timed, and the same trace gives the same figures.

mod contenders;
mod costs;
#[allow(
    dead_code,
    reason = "the shim's; what it offers and a replay has no use for"
)]
#[path = "../../../shim/src/policy/mod.rs"]
mod policy;
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

/// Which traces, and what is taken to cost what.
#[derive(Args)]
pub struct Options {
    /// Files that AIOSHIM_TRACE wrote
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Another cost of the model, in nanoseconds (may be given several times); docs/policy.md lists
    /// the names
    #[arg(long = "cost", value_name = "NAME=NS")]
    costs: Vec<String>,
}

/// Replays and prints.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut costs = Costs::default();
    for word in &options.costs {
        costs.set(word)?;
    }
    let mut replays = Vec::new();
    for path in &options.traces {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let mut rows =
            row::parse(&text).with_context(|| format!("{}: is no trace", path.display()))?;
        // Threads write their rows when their buffers are full.
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
        "no call in these traces left anything to decide"
    );
    let report = report::Report::new(&replays, &costs);
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
