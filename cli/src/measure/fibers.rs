//! What fibers cost by themselves: a yield, a create and join, and the memory of one parked in a read.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Bench;
use super::bars::Bar;
use super::live::{Hello, Live};
use super::programs::Load;
use super::progress::Progress;
use super::report::{Part, table};
use super::samples::Samples;

/// One figure that is taken in rounds.
struct Row {
    key: &'static str,
    title: &'static str,
    args: &'static [&'static str],
    load: Load,
    calls: u64,
}

const fn row(key: &'static str, title: &'static str, args: &'static [&'static str], load: Load, calls: u64) -> Row {
    Row {
        key,
        title,
        args,
        load,
        calls,
    }
}

const ROWS: [Row; 6] = [
    row(
        "yield_2",
        "fiber_yield, 2 fibers",
        &["yield", "2"],
        Load::Plain,
        400_000,
    ),
    row(
        "yield_2_shim",
        "fiber_yield, 2 fibers, preloaded",
        &["yield", "2"],
        Load::Shim,
        400_000,
    ),
    row(
        "yield_64",
        "fiber_yield, 64 fibers",
        &["yield", "64"],
        Load::Plain,
        400_000,
    ),
    row(
        "yield_64_shim",
        "fiber_yield, 64 fibers, preloaded",
        &["yield", "64"],
        Load::Shim,
        400_000,
    ),
    row(
        "create",
        "fiber_create and fiber_join",
        &["create"],
        Load::Plain,
        20_000,
    ),
    row(
        "create_shim",
        "fiber_create and fiber_join, preloaded",
        &["create"],
        Load::Shim,
        20_000,
    ),
];

/// What fibers.c tells of its parked fibers.
#[derive(Debug, Deserialize, Serialize)]
struct Parked {
    asked: u32,
    made: u32,
    /// Why no more could be made; empty when all were.
    error: String,
    woken: u64,
    park_ns: f64,
    wake_ns: f64,
    rss_before_kib: f64,
    rss_after_kib: f64,
    tables_kib: f64,
    slab_kib: f64,
}

impl Parked {
    fn bytes(&self, kib: f64) -> f64 {
        kib * 1024.0 / f64::from(self.made.max(1))
    }

    fn resident(&self) -> f64 {
        self.bytes(self.rss_after_kib - self.rss_before_kib)
    }
}

/// Measures and judges.
pub fn measure(bench: &Bench) -> Result<Part> {
    let budget = bench.budget(4, 15);
    let progress = Progress::start("fibers", budget);
    let mut failures = Vec::new();
    let mut notes = Vec::new();
    progress.show("yield, create and join");
    let all = in_rounds(bench, budget, &mut failures);
    let count: u32 = if bench.quick { 100_000 } else { 1_000_000 };
    progress.show(&format!("{count} fibers in a read"));
    let parked = match parked(bench, count) {
        Ok(parked) => Some(parked),
        Err(error) => {
            failures.push(format!("{error:#}"));
            None
        }
    };
    drop(progress);

    let mut rows = table(&["", "median", "quartiles"], 1, false);
    for (row, samples) in ROWS.iter().zip(&all) {
        match samples.median().zip(samples.quartiles()) {
            Some((ns, (low, high))) => rows.add_row([
                row.title.to_owned(),
                format!("{ns:.1} ns"),
                format!("{low:.1}..{high:.1}"),
            ]),
            None => rows.add_row([row.title, "failed", ""]),
        };
    }
    if let Some(parked) = &parked {
        if !parked.error.is_empty() {
            notes.push(format!(
                "only {} of {} fibers could be made: {}",
                parked.made, parked.asked, parked.error
            ));
        }
        for (title, figure) in told(parked) {
            rows.add_row([title, figure, String::new()]);
        }
        notes.push("kernel memory is the growth of unreclaimable slabs, of the whole machine".to_owned());
    }
    let of = |key| ROWS.iter().position(|row| row.key == key).and_then(|i| all[i].median());
    let resident = parked
        .as_ref()
        .filter(|p| p.error.is_empty())
        .map(|p| p.resident() / 1024.0);
    let samples = ROWS
        .iter()
        .zip(&all)
        .map(|(row, samples)| (row.key.to_owned(), json!(samples)));
    let samples: Value = samples
        .chain([("parked".to_owned(), json!(parked))])
        .collect::<serde_json::Map<_, _>>()
        .into();
    Ok(Part {
        key: "fibers",
        title: "Fibers: one worker".to_owned(),
        table: rows,
        notes,
        failures,
        bars: vec![
            Bar::at_most("fiber_yield between 2 fibers", 10.0, " ns", of("yield_2")),
            Bar::at_most("fiber_create and fiber_join", 200.0, " ns", of("create")),
            Bar::at_most(
                format!("memory of each of {count} parked fibers"),
                5.0,
                " KiB",
                resident,
            ),
        ],
        samples,
    })
}

/// All rows' programs at once, in turn.
fn in_rounds(bench: &Bench, budget: Duration, failures: &mut Vec<String>) -> [Samples; ROWS.len()] {
    let mut live = ROWS.each_ref().map(|row| {
        let mut command = bench.programs.command(&bench.programs.fibers, row.load);
        command.args(row.args);
        let meant = Hello {
            preloaded: row.load != Load::Plain,
            fiber: true,
        };
        let live = Live::start_rounds(command, row.title, meant);
        live.map_err(|error| failures.push(format!("{error:#}"))).ok()
    });
    let mut ns: [Vec<f64>; ROWS.len()] = Default::default();
    let start = Instant::now();
    let mut done = 0;
    while bench.more_rounds(done, 3, start.elapsed() < budget) {
        for ((row, live), ns) in ROWS.iter().zip(&mut live).zip(&mut ns) {
            match live.as_mut().map(|live| live.round(row.calls)) {
                Some(Ok(one)) => ns.push(one),
                Some(Err(error)) => {
                    failures.push(format!("{error:#}"));
                    *live = None;
                }
                None => {}
            }
        }
        done += 1;
    }
    ns.map(|ns| ns.into_iter().collect())
}

fn parked(bench: &Bench, count: u32) -> Result<Parked> {
    bench.ensure_fibers_can_wait("parked fibers")?;
    let mut command = bench.programs.command(&bench.programs.fibers, Load::Shim);
    command.args(["parked", &count.to_string()]);
    let name = format!("{count} fibers in a read");
    let mut live = Live::start(command, &name)?;
    // A million of them touch gigabytes of fresh memory.
    let line = live.line_within(Duration::from_secs(300))?;
    live.end()?;
    serde_json::from_str(&line).with_context(|| format!("{name}: said {line:?}"))
}

fn told(parked: &Parked) -> Vec<(String, String)> {
    let each = |ns: f64| format!("{:.0} ns", ns / f64::from(parked.made.max(1)));
    let memory = |kib: f64| format!("{:.0} B", parked.bytes(kib));
    let grown = parked.rss_after_kib - parked.rss_before_kib;
    vec![
        (
            format!("{} fibers, each in a read of a pipe: resident, in all", parked.made),
            format!("{:.1} MiB", grown / 1024.0),
        ),
        ("  resident, each".to_owned(), memory(grown)),
        ("  page tables, each".to_owned(), memory(parked.tables_kib)),
        ("  kernel memory, each".to_owned(), memory(parked.slab_kib)),
        ("  create and park, each".to_owned(), each(parked.park_ns)),
        (
            "  wake by end of file, finish and join, each".to_owned(),
            each(parked.wake_ns),
        ),
    ]
}
