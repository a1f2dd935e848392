//! Go programs built with the overlay of `aioshim go`, beside the same programs built without it.
//!
//! Each case has a number of goroutines that read or write, and may have another goroutine that
//! computes. Stock Go with a large GOMAXPROCS takes part, too: it hides the latency with threads.

mod build;
mod database;
mod goals;
mod http;
mod syscalls;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use comfy_table::Cell;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::bench::data_file::data_file;
use crate::bench::live::Live;
use crate::bench::phase::Phase;
use crate::bench::programs::scrub;
use crate::bench::progress::Progress;
use crate::bench::rounds::{Rounds, in_time};
use crate::measure::report::{Part, table};
use build::Built;
use database::Database;
use goals::{Measured, goals};

/// One phase of the program.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct GoPhase {
    #[serde(flatten)]
    phase: Phase,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    /// How often the other goroutine has worked for 10 us.
    turns: u64,
}

impl GoPhase {
    fn rate(&self) -> f64 {
        self.phase.rate()
    }

    fn turns(&self) -> f64 {
        self.turns as f64 / (self.phase.ns as f64 / 1e9)
    }
}

/// How a program is built and run.
#[derive(Clone, Copy, PartialEq)]
enum Participant {
    Stock,
    Converted,
    /// Converted, as where io_uring is refused.
    LinuxAio,
    /// Converted, as where Linux AIO is refused, too.
    Block,
    /// Stock with GOMAXPROCS=16.
    ManyProcs,
    StockAgain,
}

impl Participant {
    fn name(self) -> &'static str {
        match self {
            Participant::Stock => "stock",
            Participant::Converted => "converted",
            Participant::LinuxAio => "converted, engine aio",
            Participant::Block => "converted, engine block",
            Participant::ManyProcs => "stock, GOMAXPROCS=16",
            Participant::StockAgain => "stock again",
        }
    }

    /// Its place in [`ALL`].
    fn place(self) -> usize {
        self as usize
    }
}

/// The participants of each case. Ratios are relative to the first.
const ALL: [Participant; 6] = [
    Participant::Stock,
    Participant::Converted,
    Participant::LinuxAio,
    Participant::Block,
    Participant::ManyProcs,
    Participant::StockAgain,
];
const STOCK: usize = 0;

/// What is measured: the arguments of the program, and GOMAXPROCS.
#[derive(Clone, Copy, PartialEq)]
struct Case {
    kind: &'static str,
    goroutines: u32,
    other: &'static str,
    procs: u32,
}

const CASES: [Case; 29] = [
    Case::new("direct", 1, "none", 1),
    Case::new("direct", 32, "none", 1),
    Case::new("direct", 128, "none", 1),
    Case::new("direct", 1024, "none", 1),
    Case::new("direct", 1, "none", 2),
    Case::new("direct", 32, "none", 2),
    Case::new("direct", 128, "none", 2),
    Case::new("direct", 0, "yield", 1),
    Case::new("direct", 1, "yield", 1),
    Case::new("direct", 32, "yield", 1),
    Case::new("direct", 1, "busy", 1),
    Case::new("direct", 32, "busy", 1),
    Case::new("cold", 1, "none", 1),
    Case::new("cold", 128, "none", 1),
    Case::new("cold", 128, "none", 2),
    Case::new("cached", 1, "none", 1),
    Case::new("synced", 32, "yield", 1),
    Case::new("http-cold", 64, "none", 1),
    Case::new("http-cold", 64, "none", 2),
    Case::new("http-cached", 64, "none", 1),
    Case::new("http-cached", 64, "none", 2),
    Case::new("badger-cold", 128, "none", 1),
    Case::new("badger-cold", 128, "none", 2),
    Case::new("badger-cached", 128, "none", 1),
    Case::new("badger-cached", 128, "none", 2),
    Case::new("goleveldb-cold", 128, "none", 1),
    Case::new("goleveldb-cold", 128, "none", 2),
    Case::new("goleveldb-cached", 128, "none", 1),
    Case::new("goleveldb-cached", 128, "none", 2),
];

impl Case {
    const fn new(kind: &'static str, goroutines: u32, other: &'static str, procs: u32) -> Case {
        Case {
            kind,
            goroutines,
            other,
            procs,
        }
    }

    fn name(&self) -> String {
        let other = match self.other {
            "none" => "",
            "yield" => ", beside one that yields",
            _ => ", beside one that computes",
        };
        format!(
            "{} x {}{other}, P={}",
            self.kind, self.goroutines, self.procs
        )
    }

    fn is_http(&self) -> bool {
        self.kind.starts_with("http-")
    }

    /// The database that it reads.
    fn database(&self) -> Option<&'static str> {
        match self.kind.split_once('-')? {
            ("http", _) => None,
            (database, _) => Some(database),
        }
    }

    /// Whether it measures a whole program.
    fn is_program(&self) -> bool {
        self.is_http() || self.database().is_some()
    }

    /// The length of its phases. A wait that is longer than the phase cannot be seen, and stock
    /// Go lets some of 32 readers wait for half a second.
    fn ms(&self, ms: u64) -> u64 {
        if *self == Case::new("direct", 32, "none", 1) {
            4 * ms
        } else {
            ms
        }
    }

    /// Whether `who` takes part. Other engines differ only where files are read, and other
    /// numbers of threads only where there are several goroutines.
    fn has(&self, who: Participant) -> bool {
        match who {
            Participant::Stock | Participant::Converted | Participant::StockAgain => true,
            Participant::LinuxAio => self.kind == "direct" && self.goroutines > 0,
            Participant::Block => {
                ["direct", "cold", "synced"].contains(&self.kind) && self.goroutines > 0
            }
            Participant::ManyProcs => self.goroutines > 1,
        }
    }
}

/// What the cases need.
struct Prepared {
    files: Built,
    databases: Vec<Database>,
    /// The file that is read.
    data: PathBuf,
}

/// Measures the cases whose names contain one of `names`, or all, and checks the goals.
pub fn measure(bench: &Bench, names: &[String]) -> Result<Part> {
    let ms = if bench.quick { 100 } else { 500 };
    let mut notes = vec![
        "ratio: relative to stock within the same round, with quartiles".to_owned(),
        "turns: how often in a second another goroutine worked for 10 us".to_owned(),
    ];
    let cases = wanted(names)?;
    let dir = bench.dir.join("go");
    let entries = if bench.quick { 16 << 10 } else { 64 << 10 };
    let needs = |name: &str| cases.iter().any(|case| case.database() == Some(name));
    let prepared = Prepared {
        files: build::files(&dir)?,
        databases: database::prepare(&dir, entries, needs, &mut notes),
        data: data_file(&bench.dir, if bench.quick { 128 } else { 1024 })?,
    };
    let wrk = http::is_installed();
    if !wrk {
        notes.push("wrk is not installed: the file server is not measured".to_owned());
    }
    let there = |case: &Case| match case.database() {
        Some(name) => prepared
            .databases
            .iter()
            .any(|database| database.name == name),
        None => wrk || !case.is_http(),
    };
    let cases = cases.into_iter().filter(there);
    let mut all: Vec<_> = cases.map(|case| (case, rounds_of(case))).collect();
    let mut failures = Vec::new();
    let calls = count_calls(&prepared, ms, &mut notes);
    let budget = bench.budget(20, 180);
    let version = build::version()?;
    let progress = Progress::start("go", budget);
    let done = in_time(bench, budget, || {
        for (case, rounds) in &mut all {
            rounds.add(&mut failures, |who| {
                progress.show(&format!("{} by {}", case.name(), ALL[who].name()));
                run(&prepared, case, ALL[who], ms)
            });
        }
    });
    drop(progress);
    let samples: Vec<Value> = all
        .iter()
        .map(|(case, rounds)| json_of(case, rounds))
        .collect();
    Ok(Part {
        key: "go",
        title: format!("Go: {version}, phases of {ms} ms; rounds: {done}"),
        table: rows(&all),
        goals: goals(&Measured(&all)),
        notes,
        failures,
        samples: json!({ "cases": samples, "calls": calls }),
    })
}

/// The cases whose names contain one of `names`.
fn wanted(names: &[String]) -> Result<Vec<Case>> {
    let contains = |case: &Case| names.iter().any(|name| case.name().contains(name));
    let all = CASES.into_iter();
    let cases: Vec<_> = all
        .filter(|case| names.is_empty() || contains(case))
        .collect();
    let every: Vec<_> = CASES.iter().map(Case::name).collect();
    ensure!(
        !cases.is_empty(),
        "--case: no case of this name; there are: {}",
        every.join("; ")
    );
    Ok(cases)
}

/// Rounds of those who take part in the case.
fn rounds_of(case: Case) -> Rounds<GoPhase> {
    let mut rounds = Rounds::of(ALL.len());
    for who in ALL {
        if !case.has(who) {
            rounds.leave_out(who.place());
        }
    }
    rounds
}

/// Counts the system calls of one reader and of 32, with the overlay and without it.
fn count_calls(prepared: &Prepared, ms: u64, notes: &mut Vec<String>) -> Vec<Value> {
    let Built { stock, converted } = &prepared.files;
    let mut all = Vec::new();
    for readers in ["1", "32"] {
        for (program, name) in [(stock, "stock"), (converted, "converted")] {
            let name = format!("direct x {readers}, P=1, {name}");
            let args = ["direct", readers, &ms.to_string(), "none"];
            match syscalls::count(program, &name, &args, &prepared.data) {
                Ok((note, value)) => {
                    notes.push(note);
                    all.push(value);
                }
                Err(error) => {
                    notes.push(format!("system calls are not counted: {error:#}"));
                    return all;
                }
            }
        }
    }
    all
}

fn run(prepared: &Prepared, case: &Case, who: Participant, ms: u64) -> Result<GoPhase> {
    use Participant::{Block, Converted, LinuxAio, ManyProcs, Stock, StockAgain};
    let mut databases = prepared.databases.iter();
    let database = databases.find(|database| case.database() == Some(database.name));
    let built = database.map_or(&prepared.files, |database| &database.built);
    let mut command = Command::new(match who {
        Stock | StockAgain | ManyProcs => &built.stock,
        Converted | LinuxAio | Block => &built.converted,
    });
    scrub(&mut command);
    let procs = if who == ManyProcs { 16 } else { case.procs };
    command.env("GOMAXPROCS", procs.to_string());
    match who {
        LinuxAio => command.env("AIOSHIM_ENGINE", "aio"),
        Block => command.env("AIOSHIM_ENGINE", "block"),
        _ => &mut command,
    };
    let name = format!("{} by {}", case.name(), who.name());
    let (goroutines, ms) = (case.goroutines.to_string(), case.ms(ms).to_string());
    let line = if case.is_http() {
        let dir = built.stock.with_file_name("http");
        std::fs::create_dir_all(&dir)?;
        http::run(command, &name, case.kind, &dir, case.goroutines)?
    } else {
        match database {
            Some(database) => {
                let state = case.kind.rsplit('-').next().unwrap_or_default();
                command.arg(state).arg(&database.dir);
                command.args([&database.entries, &goroutines, &ms]);
            }
            None => {
                command.arg(case.kind).arg(&prepared.data);
                command.args([&goroutines, &ms, case.other]);
            }
        }
        let mut live = Live::start(command, &name)?;
        let line = live.line()?;
        live.end()?;
        line
    };
    let phase: GoPhase = serde_json::from_str(&line)
        .with_context(|| format!("{name}: unexpected output {line:?}"))?;
    let some = phase.phase.operations > 0 || case.goroutines == 0;
    ensure!(some, "{name}: completed no operation");
    Ok(phase)
}

fn json_of(case: &Case, rounds: &Rounds<GoPhase>) -> Value {
    let by: serde_json::Map<_, _> = ALL
        .iter()
        .enumerate()
        .map(|(who, by)| {
            let value = json!({
                "rate": rounds.samples(who, GoPhase::rate),
                "rate_ratio": rounds.ratios(who, STOCK, GoPhase::rate),
                "cpu_ratio": rounds.ratios(who, STOCK, |phase| phase.phase.cpu_us()),
                "phases": rounds.all(who),
            });
            (by.name().to_owned(), value)
        })
        .collect();
    json!({ "case": case.name(), "by": by })
}

fn rows(all: &[(Case, Rounds<GoPhase>)]) -> comfy_table::Table {
    let header = [
        "goroutines",
        "by",
        "a second",
        "rate ratio",
        "CPU us/op",
        "CPU ratio",
        "switches/op",
        "p50 us",
        "p99.9 us",
        "turns",
        "threads",
    ];
    let mut rows = table(&header, 2, false);
    for (case, rounds) in all {
        for (who, by) in ALL.into_iter().enumerate() {
            let Some(rate) = rounds.median(who, GoPhase::rate) else {
                continue;
            };
            let median = |figure: fn(&GoPhase) -> f64| rounds.median(who, figure).unwrap_or(0.0);
            let ratio = |figure: fn(&GoPhase) -> f64| match who {
                STOCK => String::new(),
                _ => rounds.ratios(who, STOCK, figure).describe(),
            };
            let title = if who == STOCK {
                case.name()
            } else {
                String::new()
            };
            rows.add_row(
                [
                    title,
                    by.name().to_owned(),
                    format!("{rate:.0}"),
                    ratio(GoPhase::rate),
                    format!("{:.2}", median(|phase| phase.phase.cpu_us())),
                    ratio(|phase| phase.phase.cpu_us()),
                    format!("{:.3}", median(|phase| phase.phase.switches())),
                    format!("{:.0}", median(|phase| phase.p50_us)),
                    format!("{:.0}", median(|phase| phase.p999_us)),
                    format!("{:.0}", median(GoPhase::turns)),
                    format!("{:.0}", median(|phase| phase.phase.threads as f64)),
                ]
                .map(Cell::new),
            );
        }
    }
    rows
}
