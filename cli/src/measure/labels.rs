//! Whether a mode runs as its label says: the shim's own account of a short run of the same
//! program.
//!
//! The account (AIOSHIM_STATS) costs time, so it is asked of runs that are not measured.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use testprogs::Stats;

use super::Bench;
use super::live::{Hello, Live};
use super::programs::Load;

/// Calls of a check.
const CALLS: u64 = 2048;

/// What became of the calls of one libc name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    pub converted: u64,
    pub inline: u64,
    /// "reason n" for those handed to libc.
    pub through: Vec<String>,
    handed: u64,
}

impl Account {
    /// Most calls did not go to libc as they were.
    pub fn is_converted(&self) -> bool {
        self.converted + self.inline > 9 * self.handed
    }

    /// As "converted 3, inline 4, through 5 (reason 5)".
    pub fn told(&self) -> String {
        let Account {
            converted,
            inline,
            through,
            handed,
        } = self;
        let why = if through.is_empty() {
            String::new()
        } else {
            format!(" ({})", through.join(", "))
        };
        format!("converted {converted}, inline {inline}, handed to libc {handed}{why}")
    }
}

/// An account that is being taken: the file it will be in.
struct Asked(PathBuf);

impl Asked {
    fn of(command: &mut Command, bench: &Bench) -> Asked {
        let path = bench.dir.join("account.json");
        // One of an earlier run must not be taken for this one's; most often there is none.
        let _ = fs::remove_file(&path);
        command
            .env("AIOSHIM_STATS", "json")
            .env("AIOSHIM_OUT", &path);
        Asked(path)
    }

    fn text(&self) -> Result<String> {
        let text = fs::read_to_string(&self.0).with_context(|| {
            format!(
                "{}: the shim left no account; is it loaded?",
                self.0.display()
            )
        })?;
        let _ = fs::remove_file(&self.0);
        Ok(text)
    }

    fn symbol(&self, symbol: &str) -> Result<Account> {
        let call = Stats::parse(&self.text()?)?.call(symbol);
        Ok(Account {
            converted: call.converted,
            inline: call.inline,
            handed: call.through.values().sum(),
            through: call
                .through
                .iter()
                .map(|(why, n)| format!("{why} {n}"))
                .collect(),
        })
    }
}

/// What becomes of `call` of overhead.c, by its libc name `symbol`, with its arguments `place` and
/// `slots`.
pub fn of_call(
    bench: &Bench,
    call: &str,
    symbol: &str,
    place: &str,
    slots: u32,
) -> Result<Account> {
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
    let account = asked.symbol(symbol)?;
    ensure!(
        account.converted + account.inline + account.handed > 0,
        "{name}: the shim saw no call of {symbol}"
    );
    Ok(account)
}

/// What becomes of the reads of throughput.c on fibers; `args` are its arguments.
pub fn of_throughput(bench: &Bench, args: &[String]) -> Result<Account> {
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

/// What becomes of the calls of `symbol` in a run of `command` that says one line; called `name` in
/// errors.
pub fn of_run(bench: &Bench, mut command: Command, name: &str, symbol: &str) -> Result<Account> {
    let asked = Asked::of(&mut command, bench);
    let mut live = Live::start(command, name)?;
    live.line()?;
    live.end()?;
    asked.symbol(symbol)
}

/// The engine the shim says it chose, or its words for why there is none. `asked`: AIOSHIM_ENGINE,
/// if not the one that all programs get.
pub fn engine(bench: &Bench, asked: Option<&str>) -> Result<std::result::Result<String, String>> {
    let mut command = bench.programs.command(&bench.programs.overhead, Load::Shim);
    command
        .args(["pread4k", "fibers", "64"])
        .arg(&bench.calls_dir);
    if let Some(engine) = asked {
        command.env("AIOSHIM_ENGINE", engine);
    }
    let account = Asked::of(&mut command, bench);
    let mut live = Live::start(command, "check of the engine")?;
    live.line()?;
    live.round(CALLS)?;
    live.end()?;
    let account: serde_json::Value = serde_json::from_str(&account.text()?)?;
    let engine = account["engine"]
        .as_str()
        .context("the shim does not say its engine")?;
    // With sync every call is plain, as where there is none.
    let none = engine.starts_with("none") || ["not needed", "sync"].contains(&engine);
    Ok(if none {
        Err(engine.to_owned())
    } else {
        Ok(engine.to_owned())
    })
}

/// Makes sure that asking for `engine`, a word for AIOSHIM_ENGINE, gives it and not one further
/// down the ladder.
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
