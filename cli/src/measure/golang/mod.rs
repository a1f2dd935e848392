//! Go programs built with the overlay of `aioshim go`, beside the same programs built without it.
//!
//! Each case has a number of goroutines that read or write, and may have another goroutine that
//! computes. Stock Go with a large GOMAXPROCS takes part, too: it hides the latency with threads.

mod http;
mod syscalls;

use std::path::{Path, PathBuf};
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
use crate::measure::goals::Goal;
use crate::measure::report::{Part, table};

const HTTP_SOURCE: &str = include_str!("../../../../go/bench/http.go");
const SOURCE: &str = include_str!("../../../../go/bench/main.go");

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

/// How a participant is built and run.
#[derive(Clone, Copy, PartialEq)]
enum By {
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

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Stock => "stock",
            By::Converted => "converted",
            By::LinuxAio => "converted, engine aio",
            By::Block => "converted, engine block",
            By::ManyProcs => "stock, GOMAXPROCS=16",
            By::StockAgain => "stock again",
        }
    }
}

/// The participants of each case. Ratios are relative to the first.
const ALL: [By; 6] = [
    By::Stock,
    By::Converted,
    By::LinuxAio,
    By::Block,
    By::ManyProcs,
    By::StockAgain,
];
const STOCK: usize = 0;
const CONVERTED: usize = 1;
const LINUX_AIO: usize = 2;
const BLOCK: usize = 3;

/// What is measured: the arguments of the program, and GOMAXPROCS.
#[derive(Clone, Copy)]
struct Case {
    kind: &'static str,
    goroutines: u32,
    other: &'static str,
    procs: u32,
}

const fn case(kind: &'static str, goroutines: u32, other: &'static str, procs: u32) -> Case {
    Case {
        kind,
        goroutines,
        other,
        procs,
    }
}

const CASES: [Case; 20] = [
    case("direct", 1, "none", 1),
    case("direct", 32, "none", 1),
    case("direct", 128, "none", 1),
    case("direct", 1024, "none", 1),
    case("direct", 1, "none", 2),
    case("direct", 32, "none", 2),
    case("direct", 128, "none", 2),
    case("direct", 1, "yield", 1),
    case("direct", 32, "yield", 1),
    case("direct", 1, "busy", 1),
    case("direct", 32, "busy", 1),
    case("cold", 1, "none", 1),
    case("cold", 128, "none", 1),
    case("cold", 128, "none", 2),
    case("cached", 1, "none", 1),
    case("synced", 32, "yield", 1),
    case("http-cold", 64, "none", 1),
    case("http-cold", 64, "none", 2),
    case("http-cached", 64, "none", 1),
    case("http-cached", 64, "none", 2),
];

impl Case {
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

    /// The place of the case with these arguments.
    fn find(kind: &str, goroutines: u32, other: &str, procs: u32) -> usize {
        let same = |case: &Case| {
            (case.kind, case.goroutines, case.other, case.procs) == (kind, goroutines, other, procs)
        };
        CASES.iter().position(same).expect("one of CASES")
    }
}

/// The two programs.
struct Built {
    stock: PathBuf,
    converted: PathBuf,
    version: String,
}

/// Measures and checks the goals.
pub fn measure(bench: &Bench) -> Result<Part> {
    let ms = if bench.quick { 100 } else { 500 };
    let built = build(&bench.dir.join("go"))?;
    let file = data_file(&bench.dir, if bench.quick { 128 } else { 1024 })?;
    let budget = bench.budget(20, 180);
    let progress = Progress::start("go", budget);
    let mut failures = Vec::new();
    let mut all: Vec<Rounds<GoPhase>> = CASES.iter().map(|_| Rounds::of(ALL.len())).collect();
    let mut notes = vec![
        "ratio: relative to stock within the same round, with quartiles".to_owned(),
        "turns: how often in a second another goroutine worked for 10 us".to_owned(),
    ];
    let wrk = http::is_installed();
    if !wrk {
        notes.push("wrk is not installed: the file server is not measured".to_owned());
        let https = CASES
            .iter()
            .zip(&mut all)
            .filter(|(case, _)| case.is_http());
        https.for_each(|(_, rounds)| (0..ALL.len()).for_each(|who| rounds.leave_out(who)));
    }
    for (_, rounds) in CASES
        .iter()
        .zip(&mut all)
        .filter(|(case, _)| case.is_http())
    {
        rounds.leave_out(LINUX_AIO);
        rounds.leave_out(BLOCK);
    }
    let calls = count_calls(&built, &file, ms, &mut notes);
    let done = in_time(bench, budget, || {
        for (case, rounds) in CASES.iter().zip(&mut all) {
            rounds.add(&mut failures, |who| {
                progress.show(&format!("{} by {}", case.name(), ALL[who].name()));
                run(&built, case, ALL[who], &file, ms)
            });
        }
    });
    drop(progress);
    let samples: Vec<Value> = CASES
        .iter()
        .zip(&all)
        .map(|(case, rounds)| json_of(case, rounds))
        .collect();
    Ok(Part {
        key: "go",
        title: format!("Go: {}, phases of {ms} ms; rounds: {done}", built.version),
        table: rows(&all),
        goals: goals(&all),
        notes,
        failures,
        samples: json!({ "cases": samples, "calls": calls }),
    })
}

/// Counts the system calls of one reader and of 32, with the overlay and without it.
fn count_calls(built: &Built, file: &Path, ms: u64, notes: &mut Vec<String>) -> Vec<Value> {
    let mut all = Vec::new();
    for readers in ["1", "32"] {
        for (program, by) in [(&built.stock, By::Stock), (&built.converted, By::Converted)] {
            let name = format!("direct x {readers}, P=1, {}", by.name());
            let args = ["direct", readers, &ms.to_string(), "none"];
            match syscalls::count(program, &name, &args, file) {
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

/// Builds the program with and without the overlay.
fn build(dir: &Path) -> Result<Built> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    std::fs::write(dir.join("go.mod"), "module bench\n\ngo 1.22\n")?;
    std::fs::write(dir.join("main.go"), SOURCE)?;
    std::fs::write(dir.join("http.go"), HTTP_SOURCE)?;
    let aioshim = std::env::current_exe().context("cannot find this command")?;
    let run = |command: &mut Command| -> Result<String> {
        let output = command
            .current_dir(dir)
            .env("GOFLAGS", "")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .output()
            .context("go is not on PATH")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "the Go program does not build: {}",
            said.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let version = run(Command::new("go").args(["env", "GOVERSION"]))?;
    run(Command::new("go").args(["build", "-o", "stock", "."]))?;
    run(Command::new(aioshim).args(["go", "build", "-o", "converted", "."]))?;
    Ok(Built {
        stock: dir.join("stock"),
        converted: dir.join("converted"),
        version,
    })
}

fn run(built: &Built, case: &Case, by: By, file: &Path, ms: u64) -> Result<GoPhase> {
    let mut command = Command::new(match by {
        By::Stock | By::StockAgain | By::ManyProcs => &built.stock,
        By::Converted | By::LinuxAio | By::Block => &built.converted,
    });
    scrub(&mut command);
    let procs = match by {
        By::ManyProcs => 16,
        _ => case.procs,
    };
    command.env("GOMAXPROCS", procs.to_string());
    match by {
        By::LinuxAio => command.env("AIOSHIM_ENGINE", "aio"),
        By::Block => command.env("AIOSHIM_ENGINE", "block"),
        _ => &mut command,
    };
    let name = format!("{} by {}", case.name(), by.name());
    let line = if case.is_http() {
        let dir = built.stock.with_file_name("http");
        std::fs::create_dir_all(&dir)?;
        http::run(command, &name, case.kind, &dir, case.goroutines)?
    } else {
        command.arg(case.kind).arg(file);
        command.args([&case.goroutines.to_string(), &ms.to_string(), case.other]);
        let mut live = Live::start(command, &name)?;
        let line = live.line()?;
        live.end()?;
        line
    };
    let phase: GoPhase = serde_json::from_str(&line)
        .with_context(|| format!("{name}: unexpected output {line:?}"))?;
    ensure!(phase.phase.operations > 0, "{name}: completed no operation");
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

fn goals(all: &[Rounds<GoPhase>]) -> Vec<Goal> {
    let ratio = |case: usize, who: usize, figure: fn(&GoPhase) -> f64| {
        all[case].ratios(who, STOCK, figure).median()
    };
    let rate = |kind: &str, goroutines, procs, who| {
        ratio(
            Case::find(kind, goroutines, "none", procs),
            who,
            GoPhase::rate,
        )
    };
    let cpu: fn(&GoPhase) -> f64 = |phase| phase.phase.cpu_us();
    let p999: fn(&GoPhase) -> f64 = |phase| phase.p999_us;
    let direct = |goroutines, procs| Case::find("direct", goroutines, "none", procs);
    let busy = Case::find("direct", 32, "busy", 1);
    let threads = all[direct(128, 1)].median(CONVERTED, |phase| phase.phase.threads as f64);
    let converted = CONVERTED;
    vec![
        Goal::at_least(
            "direct x 128, P=1: IOPS",
            3.0,
            "x stock's",
            rate("direct", 128, 1, converted),
        ),
        Goal::at_most(
            "direct x 128, P=1: CPU per read",
            0.4,
            "x stock's",
            ratio(direct(128, 1), converted, cpu),
        ),
        Goal::at_most("direct x 128, P=1: threads", 5.0, "", threads),
        Goal::at_least(
            "direct x 128, P=2: IOPS",
            2.0,
            "x stock's",
            rate("direct", 128, 2, converted),
        ),
        Goal::at_most(
            "direct x 128, P=2: CPU per read",
            0.65,
            "x stock's",
            ratio(direct(128, 2), converted, cpu),
        ),
        Goal::at_least(
            "one reader, P=1: IOPS",
            0.95,
            "x stock's",
            rate("direct", 1, 1, converted),
        ),
        Goal::at_least(
            "one reader, P=2: IOPS",
            0.95,
            "x stock's",
            rate("direct", 1, 2, converted),
        ),
        Goal::at_most(
            "direct x 32, P=1: p99.9",
            0.02,
            "x stock's",
            ratio(direct(32, 1), converted, p999),
        ),
        Goal::at_least(
            "direct x 32 beside one that computes: IOPS",
            1.3,
            "x stock's",
            ratio(busy, converted, GoPhase::rate),
        ),
        Goal::at_least(
            "direct x 32 beside one that computes: its pace",
            20.0,
            "x stock's",
            ratio(busy, converted, GoPhase::turns),
        ),
        Goal::at_least(
            "engine block, direct x 32, P=1: IOPS",
            0.95,
            "x stock's",
            rate("direct", 32, 1, BLOCK),
        ),
        Goal::at_most(
            "engine block, direct x 32, P=1: p99.9",
            0.33,
            "x stock's",
            ratio(direct(32, 1), BLOCK, p999),
        ),
        Goal::at_most(
            "cached 4 KiB: CPU per read",
            1.02,
            "x stock's",
            ratio(Case::find("cached", 1, "none", 1), converted, cpu),
        ),
        Goal::at_least(
            "cold x 128, P=1: IOPS",
            2.0,
            "x stock's",
            rate("cold", 128, 1, converted),
        ),
    ]
}

fn rows(all: &[Rounds<GoPhase>]) -> comfy_table::Table {
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
    for (case, rounds) in CASES.iter().zip(all) {
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
