//! Checks that the engine auto is never the slower choice: measures each kind of call in each state
//! of the caches, with auto, with every engine and with pthreads.
//!
//! The ratio of a cell compares the best of the others with auto. The best of five is above 1 by
//! chance alone. To show by how much, the engine that auto chose also runs as one of the others,
//! and is thereby compared with itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use comfy_table::Cell as TableCell;
use serde_json::{Value, json};

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::call_stats;
use crate::bench::data_file::data_file;
use crate::bench::live::Hello;
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::rounds::{Rounds, in_time};
use crate::bench::samples::Samples;

/// The ratio up to which auto may be slower than the best of the others.
const LIMIT: f64 = 1.1;

/// The values for AIOSHIM_ENGINE, and pthreads without the shim.
const NAMES: [&str; 6] = ["auto", "uring", "aio", "threads", "sync", "pthreads"];
const AUTO: usize = 0;
const PTHREADS: usize = 5;
const OTHERS: std::ops::Range<usize> = 1..6;

struct Cell {
    state: &'static str,
    call: &'static str,
    count: u32,
    kib: u32,
    rounds: Rounds,
}

/// The best of the others in a cell: its operations per second relative to auto, within the same
/// rounds.
struct Best {
    who: usize,
    ratio: f64,
    ratios: Samples,
}

impl Cell {
    fn name(&self) -> String {
        let size = match self.call {
            "read" | "write" => format!(" {} KiB", self.kib),
            _ => String::new(),
        };
        format!("{} {}{size} by {}", self.state, self.call, self.count)
    }

    fn best(&self) -> Option<Best> {
        let (who, ratio) = self.rounds.highest(OTHERS, AUTO, Phase::rate)?;
        let ratios = self.rounds.ratios(who, AUTO, Phase::rate);
        Some(Best { who, ratio, ratios })
    }

    fn json(&self) -> Value {
        let best = self.best();
        json!({
            "state": self.state,
            "call": self.call,
            "count": self.count,
            "kib": self.kib,
            "by": self.rounds.json(&NAMES),
            "best_other": best.as_ref().map(|best| NAMES[best.who]),
            "best_other_by_auto": best.map(|best| best.ratios),
        })
    }
}

/// All meaningful combinations: an open does not use O_DIRECT, and only reads and writes have a
/// size.
fn cells(quick: bool) -> Vec<Cell> {
    let counts: &[u32] = if quick { &[1, 32] } else { &[1, 32, 256] };
    let mut cells = Vec::new();
    for call in ["read", "write", "open", "fsync"] {
        let sized = ["read", "write"].contains(&call) && !quick;
        let sizes: &[u32] = if sized { &[4, 64] } else { &[4] };
        for state in ["cached", "cold", "direct"] {
            if (call, state) == ("open", "direct") {
                continue;
            }
            for (&count, &kib) in counts
                .iter()
                .flat_map(|count| sizes.iter().map(move |kib| (count, kib)))
            {
                cells.push(Cell {
                    state,
                    call,
                    count,
                    kib,
                    rounds: Rounds::of(NAMES.len()),
                });
            }
        }
    }
    cells
}

/// The parameters that all phases share.
struct Place {
    workers: u32,
    ms: u64,
    file: PathBuf,
    dir: PathBuf,
}

/// Measures and checks the goal.
pub fn measure(bench: &Bench) -> Result<Part> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let place = Place {
        workers: u32::try_from(cores)?,
        ms: if bench.quick { 25 } else { 100 },
        file: data_file(&bench.dir, if bench.quick { 128 } else { 1024 })?,
        dir: bench.calls_dir.clone(),
    };
    let budget = bench.budget(20, 240);
    let progress = Progress::start("matrix", budget);
    let mut failures = Vec::new();
    let mut cells = cells(bench.quick);
    for (who, name) in NAMES.iter().enumerate().take(PTHREADS) {
        if let Err(error) = call_stats::ensure_engine(bench, name) {
            failures.push(format!("{error:#}"));
            cells.iter_mut().for_each(|cell| cell.rounds.leave_out(who));
        }
    }
    let done = in_time(bench, budget, || {
        for cell in &mut cells {
            let Cell {
                state,
                call,
                count,
                kib,
                ..
            } = *cell;
            progress.show(&cell.name());
            let name = cell.name();
            cell.rounds.add(&mut failures, |who| {
                let words = [state, call, &(kib << 10).to_string()].map(str::to_owned);
                run(bench, who, count, &place, &words)
                    .with_context(|| format!("{name}, {}", NAMES[who]))
            });
        }
    });
    drop(progress);

    let mut notes =
        vec![
        format!("fibers run on one worker per core ({cores}), but never on more workers than \
            fibers"),
        "ratio: the best of the others relative to auto, within the same rounds, with quartiles; \
        above 1 auto is slower".to_owned(),
        "cold write: to newly allocated blocks; cold open: of new names that do not exist; cached \
        fsync: of nothing; \
         cold and direct fsync: of a block just written"
            .to_owned(),
    ];
    notes.extend(noise(bench, &cells));
    let (summary, losers) = verdict(&cells);
    notes.extend(losers);
    notes.push(summary);
    let worst = cells
        .iter()
        .filter_map(|cell| Some((cell, cell.best()?)))
        .max_by(|a, b| a.1.ratio.total_cmp(&b.1.ratio));
    let goal = match worst {
        Some((cell, best)) => Goal::at_most(
            format!(
                "best of the others relative to auto, worst cell ({}, {})",
                cell.name(),
                NAMES[best.who]
            ),
            LIMIT,
            "x",
            Some(best.ratio),
        ),
        None => Goal::at_most(
            "best of the others relative to auto, worst cell",
            LIMIT,
            "x",
            None,
        ),
    };
    let samples: Vec<Value> = cells.iter().map(Cell::json).collect();
    Ok(Part {
        key: "matrix",
        title: format!(
            "Matrix: operations per second, phases of {} ms; rounds: {done}",
            place.ms
        ),
        table: rows(&cells),
        goals: vec![goal],
        notes,
        failures,
        samples: json!(samples),
    })
}

fn run(bench: &Bench, who: usize, count: u32, place: &Place, words: &[String]) -> Result<Phase> {
    let on_fibers = who != PTHREADS;
    let (kind, load) = if on_fibers {
        ("fibers", Load::Shim)
    } else {
        ("pthreads", Load::Plain)
    };
    let mut command = bench.programs.command(&bench.programs.matrix, load);
    if on_fibers {
        command.env("AIOSHIM_ENGINE", NAMES[who]);
    }
    let workers = place.workers.min(count);
    let numbers = [count.to_string(), workers.to_string(), place.ms.to_string()];
    command.arg(kind).args(numbers).args(words);
    command.args([Path::new(&place.file), &place.dir]);
    let meant = Hello {
        preloaded: on_fibers,
        fiber: on_fibers,
    };
    Phase::of(command, "matrix", meant)
}

/// Describes the noise: the ratio of auto to the engine that it chose, which should be exactly 1.
fn noise(bench: &Bench, cells: &[Cell]) -> Option<String> {
    let chosen = bench.engine.as_deref()?;
    let same = match chosen {
        "io_uring" => 1,
        "linux-aio" => 2,
        "threads" => 3,
        _ => return None,
    };
    let medians: Samples = cells
        .iter()
        .filter_map(|cell| cell.rounds.ratios(same, AUTO, Phase::rate).median())
        .collect();
    let over = cells
        .iter()
        .filter(|cell| cell.rounds.ratios(same, AUTO, Phase::rate).median() > Some(LIMIT))
        .count();
    Some(format!(
        "noise: auto chose {}; compared with itself it is {} over the cells, and slower by more \
        than {LIMIT} in {over}",
        NAMES[same],
        medians.describe(),
    ))
}

/// Returns "N of M cells", and a line for each cell in which auto loses, the worst first.
fn verdict(cells: &[Cell]) -> (String, Vec<String>) {
    let mut judged: Vec<(&Cell, Best)> = cells
        .iter()
        .filter_map(|cell| Some((cell, cell.best()?)))
        .collect();
    judged.sort_by(|a, b| b.1.ratio.total_cmp(&a.1.ratio));
    let losing: Vec<&(&Cell, Best)> = judged
        .iter()
        .filter(|(_, best)| best.ratio > LIMIT)
        .collect();
    let clearly = |best: &Best| best.ratios.quartiles().is_some_and(|(low, _)| low > LIMIT);
    let lines = losing.iter().map(|(cell, best)| {
        let word = if clearly(best) {
            ""
        } else {
            ", but not in the lower quartile"
        };
        format!(
            "loses: {}: {} {}{word}",
            cell.name(),
            NAMES[best.who],
            best.ratios.describe()
        )
    });
    let clear = losing.iter().filter(|(_, best)| clearly(best)).count();
    let summary = format!(
        "{} of {} cells within {LIMIT}x; {clear} of the others lose in the lower quartile too",
        judged.len() - losing.len(),
        judged.len()
    );
    (summary, lines.collect())
}

fn rows(cells: &[Cell]) -> comfy_table::Table {
    let mut header = vec!["cell"];
    header.extend(NAMES);
    header.extend(["best other", "ratio"]);
    let mut rows = table(&header, 1, false);
    for cell in cells {
        let mut row = vec![TableCell::new(cell.name())];
        row.extend((0..NAMES.len()).map(|who| {
            let rate = cell.rounds.median(who, Phase::rate);
            TableCell::new(rate.map_or("failed".to_owned(), |rate| format!("{rate:.0}")))
        }));
        if let Some(best) = cell.best() {
            row.push(TableCell::new(NAMES[best.who]));
            row.push(TableCell::new(best.ratios.describe()));
        }
        rows.add_row(row);
    }
    rows
}
