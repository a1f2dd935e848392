//! Checks that a mode runs as its label says, using the shim's own statistics of a short run of the
//! same program.
//!
//! The statistics (AIOSHIM_STATS) cost time, so they come from runs that are not measured.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use format::Stats;
use serde::Serialize;

use super::Bench;
use super::live::{Hello, Live};
use super::programs::Load;

/// The number of calls of a check.
const CALLS: u64 = 2048;

/// The shim's statistics for the calls of one libc name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CallCounts {
    pub converted: u64,
    pub inline: u64,
    /// "reason n" for the calls that were passed through to libc.
    pub through: Vec<String>,
    passed: u64,
}

impl CallCounts {
    /// Returns whether most calls were not passed through.
    pub fn is_converted(&self) -> bool {
        self.converted + self.inline > 9 * self.passed
    }

    /// The part of the calls for which the fiber parked.
    pub fn parked_share(&self) -> f64 {
        self.converted as f64 / (self.converted + self.inline + self.passed).max(1) as f64
    }

    /// Formats the statistics as "converted 3, inline 4, passed through 5 (reason 5)".
    pub fn describe(&self) -> String {
        let CallCounts {
            converted,
            inline,
            through,
            passed,
        } = self;
        let why = if through.is_empty() {
            String::new()
        } else {
            format!(" ({})", through.join(", "))
        };
        format!("converted {converted}, inline {inline}, passed through {passed}{why}")
    }
}

/// Statistics that a run will write: the path of their file.
struct Asked(PathBuf);

impl Asked {
    fn of(command: &mut Command, bench: &Bench) -> Asked {
        let path = bench.dir.join("account.json");
        // Statistics of an earlier run must not be mistaken for this one's. Usually there is no
        // such file.
        let _ = fs::remove_file(&path);
        command
            .env("AIOSHIM_STATS", "json")
            .env("AIOSHIM_OUT", &path);
        Asked(path)
    }

    fn text(&self) -> Result<String> {
        let text = fs::read_to_string(&self.0).with_context(|| {
            format!(
                "{}: the shim wrote no statistics; is it loaded?",
                self.0.display()
            )
        })?;
        let _ = fs::remove_file(&self.0);
        let line = Stats::line_of(&text)
            .with_context(|| format!("the shim wrote no statistics, but: {text}"))?;
        Ok(line.to_owned())
    }

    fn symbol(&self, symbol: &str) -> Result<CallCounts> {
        let call = Stats::parse(&self.text()?)?.call(symbol);
        Ok(CallCounts {
            converted: call.converted,
            inline: call.inline,
            passed: call.through.values().sum(),
            through: call
                .through
                .iter()
                .map(|(why, n)| format!("{why} {n}"))
                .collect(),
        })
    }
}

/// Returns the statistics of `call` of overhead.c, whose libc name is `symbol`, with the arguments
/// `place` and `slots`.
pub fn of_call(
    bench: &Bench,
    call: &str,
    symbol: &str,
    place: &str,
    slots: u32,
) -> Result<CallCounts> {
    let mut command = bench.programs.command(&bench.programs.overhead, Load::Shim);
    command
        .args([call, place, &slots.to_string()])
        .arg(&bench.calls_dir);
    let asked = Asked::of(&mut command, bench);
    let meant = Hello {
        preloaded: true,
        fiber: true,
    };
    let name = format!("check of {call} {place} {slots}");
    let mut live = Live::start_rounds(command, &name, meant)?;
    live.round(CALLS)?;
    live.end()?;
    let counts = asked.symbol(symbol)?;
    ensure!(
        counts.converted + counts.inline + counts.passed > 0,
        "{name}: the shim saw no call of {symbol}"
    );
    Ok(counts)
}

/// Returns the statistics of the reads of throughput.c on fibers; `args` are its arguments.
pub fn of_throughput(bench: &Bench, args: &[String]) -> Result<CallCounts> {
    let mut command = bench
        .programs
        .command(&bench.programs.throughput, Load::Shim);
    command.args(args);
    of_run(
        bench,
        command,
        &format!("check of throughput {}", args.join(" ")),
        "pread",
    )
}

/// Returns the statistics of the calls of `symbol` in a run of `command`, which must print one
/// line. Errors call the run `name`.
pub fn of_run(bench: &Bench, mut command: Command, name: &str, symbol: &str) -> Result<CallCounts> {
    let asked = Asked::of(&mut command, bench);
    let mut live = Live::start(command, name)?;
    live.line()?;
    live.end()?;
    asked.symbol(symbol)
}

/// Returns the engine that the shim chose, or its reason for having none. `asked` overrides the
/// AIOSHIM_ENGINE that all programs get.
pub fn engine(bench: &Bench, asked: Option<&str>) -> Result<std::result::Result<String, String>> {
    let mut command = bench.programs.command(&bench.programs.overhead, Load::Shim);
    command
        .args(["pread4k", "fibers", "64"])
        .arg(&bench.calls_dir);
    if let Some(engine) = asked {
        command.env("AIOSHIM_ENGINE", engine);
    }
    let counts = Asked::of(&mut command, bench);
    let mut live = Live::start(command, "check of the engine")?;
    live.line()?;
    live.round(CALLS)?;
    live.end()?;
    let counts: serde_json::Value = serde_json::from_str(&counts.text()?)?;
    let engine = counts["engine"]
        .as_str()
        .context("the statistics do not name the engine")?;
    // With sync every call is plain, as if there were no engine.
    let none = engine.starts_with("none") || ["not needed", "sync"].contains(&engine);
    Ok(if none {
        Err(engine.to_owned())
    } else {
        Ok(engine.to_owned())
    })
}

/// Checks that the shim uses `engine`, a value for AIOSHIM_ENGINE, and did not fall back to another
/// one.
pub fn ensure_engine(bench: &Bench, engine: &str) -> Result<()> {
    let wanted = match engine {
        "uring" => "io_uring",
        "aio" => "linux-aio",
        other => other,
    };
    let chosen = match self::engine(bench, Some(engine))? {
        Ok(chosen) | Err(chosen) => chosen,
    };
    ensure!(
        engine == "auto" || chosen.starts_with(wanted),
        "engine {engine}: the shim chose {chosen}"
    );
    Ok(())
}
