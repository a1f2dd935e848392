//! Requests of one read and some work: the time until a number of them is done, and their CPU time,
//! by fibers on two workers and on one, by the same number of threads, and by thread pools.
//!
//! Half of the reads find their block in the page cache. While a thread waits for one of the other
//! half, another thread must take its place, but too many threads get in each other's way. Which
//! pool size is best depends on the work.

use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Cell;
use plotters::prelude::SeriesLabelPosition;
use serde_json::{Value, json};

use super::goals::Goal;
use super::plot::{self, Axis, Line, Panel};
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::data_file::data_file;
use crate::bench::live::Hello;
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::rounds::{Rounds, in_time};
use crate::bench::samples::Samples;
use crate::bench::work::turns_per_us;

/// Microseconds of work in each request.
const MICROSECONDS: [u32; 6] = [0, 2, 5, 10, 20, 50];

/// The participants.
pub const NAMES: [&str; 7] = [
    "64 fibers",
    "64 pthreads",
    "pool of 2",
    "pool of 8",
    "pool of 32",
    "64 pthreads again",
    "64 fibers, 1 worker",
];
const COUNTS: [u32; 7] = [64, 64, 2, 8, 32, 64, 64];
const FIBERS: usize = 0;
const PTHREADS: usize = 1;
pub const AGAIN: usize = 5;
const ONE_WORKER: usize = 6;
const OTHERS: std::ops::Range<usize> = PTHREADS..AGAIN;

/// The size of the file. One half of it is cached, the other is not. Each half must have at least
/// as many blocks as half of the requests.
const FILE_MIB: u64 = 64;

struct Case {
    us: u32,
    rounds: Rounds,
}

/// The fastest of the others, and its time relative to the fibers within the same rounds.
struct Soonest {
    who: usize,
    ratios: Samples,
}

impl Case {
    fn soonest(&self) -> Option<Soonest> {
        // The fastest has the highest rate, because every phase has the same number of requests.
        let (who, _) = self.rounds.highest(OTHERS, FIBERS, Phase::rate)?;
        let ratios = self.rounds.ratios(who, FIBERS, Phase::ms);
        Some(Soonest { who, ratios })
    }

    /// The noise of a ratio.
    fn noise(&self) -> Option<f64> {
        self.rounds.ratios(AGAIN, PTHREADS, Phase::ms).noise()
    }

    fn json(&self) -> Value {
        let soonest = self.soonest();
        json!({
            "work_us": self.us,
            "by": self.rounds.json(&NAMES),
            "soonest_other": soonest.as_ref().map(|soonest| NAMES[soonest.who]),
            "his_time_by_fibers": soonest.map(|soonest| soonest.ratios),
            "noise": self.noise(),
        })
    }
}

/// Measures and checks the goals. Writes the plot to `out`.
pub fn measure(bench: &Bench, out: &Path) -> Result<Part> {
    let requests: u32 = if bench.quick { 4_000 } else { 12_000 };
    let file = data_file(&bench.dir, FILE_MIB)?;
    let budget = bench.budget(12, 100);
    let progress = Progress::start("mixed", budget);
    let mut failures = Vec::new();
    let mut cases = MICROSECONDS.map(|us| Case {
        us,
        rounds: Rounds::of(NAMES.len()),
    });
    if let Err(error) = bench.ensure_fibers_can_wait("fibers' mixed work") {
        failures.push(format!("{error:#}"));
        for case in &mut cases {
            case.rounds.leave_out(FIBERS);
            case.rounds.leave_out(ONE_WORKER);
        }
    }
    progress.show("calibrating a microsecond of work");
    let turns_per_us = turns_per_us(bench)?;
    let done = in_time(bench, budget, || {
        for case in &mut cases {
            let turns = (f64::from(case.us) * turns_per_us) as u64;
            case.rounds.add(&mut failures, |who| {
                progress.show(&format!("{} us of work by {}", case.us, NAMES[who]));
                run(bench, who, requests, turns, &file)
                    .with_context(|| format!("mixed, {} us of work", case.us))
            });
        }
    });
    drop(progress);

    let mut notes = vec![
        format!(
            "half of the reads are cold; a microsecond of work is {turns_per_us:.0} iterations of \
            a loop, the same for all"
        ),
        "ratio: time relative to the fibers, within the same round, with quartiles; above 1 the \
        fibers are faster"
            .to_owned(),
    ];
    notes.extend(warmer(&cases));
    match draw(&cases, out) {
        Ok(path) => notes.push(format!("plot: {}", path.display())),
        Err(error) => failures.push(format!("plot: {error:#}")),
    }
    let samples: Vec<Value> = cases.iter().map(Case::json).collect();
    Ok(Part {
        key: "mixed",
        title: format!(
            "Mixed: {requests} requests of one 4 KiB read and some work, on two processors; \
            rounds: {done}"
        ),
        table: rows(&cases),
        goals: goals(&cases),
        notes,
        failures,
        samples: json!(samples),
    })
}

/// Runs one participant once.
pub fn run(bench: &Bench, who: usize, requests: u32, turns: u64, file: &Path) -> Result<Phase> {
    let on_fibers = matches!(who, FIBERS | ONE_WORKER);
    let (kind, load) = if on_fibers {
        ("fibers", Load::Shim)
    } else {
        ("pthreads", Load::Plain)
    };
    let workers = if who == ONE_WORKER { 1 } else { 2 };
    let mut command = bench.programs.command(&bench.programs.mixed, load);
    let numbers = [
        COUNTS[who].to_string(),
        workers.to_string(),
        requests.to_string(),
        turns.to_string(),
    ];
    command.arg(kind).args(numbers).arg(file);
    let meant = Hello {
        preloaded: on_fibers,
        fiber: on_fibers,
    };
    Phase::of(command, NAMES[who], meant)
}

/// Returns a note if reads that should have been cold were not.
fn warmer(cases: &[Case]) -> Option<String> {
    // Half of the requests are cold, which is 2048 bytes per request on average.
    let parts = cases
        .iter()
        .flat_map(|case| (0..NAMES.len()).filter_map(|who| case.rounds.device_part(who, 2048.0)));
    let least = parts.reduce(f64::min)?;
    (least < 0.9).then(|| {
        format!(
            "in the worst case, only {:.0} % of the cold bytes were read from the device",
            100.0 * least
        )
    })
}

fn rows(cases: &[Case]) -> comfy_table::Table {
    let header = [
        "work us",
        "by",
        "ms",
        "quartiles",
        "CPU ms",
        "switches/request",
        "time ratio",
        "CPU ratio",
    ];
    let mut rows = table(&header, 2, false);
    for Case { us, rounds } in cases {
        for (who, name) in NAMES.into_iter().enumerate() {
            let Some((low, high)) = rounds.samples(who, Phase::ms).quartiles() else {
                continue;
            };
            let median = |figure: fn(&Phase) -> f64| rounds.median(who, figure).unwrap_or_default();
            let ratio = |figure: fn(&Phase) -> f64| match who {
                FIBERS => String::new(),
                _ => rounds.ratios(who, FIBERS, figure).describe(),
            };
            rows.add_row(
                [
                    us.to_string(),
                    name.to_owned(),
                    format!("{:.1}", median(Phase::ms)),
                    format!("{low:.1}..{high:.1}"),
                    format!("{:.1}", median(Phase::whole_cpu_us) / 1000.0),
                    format!("{:.3}", median(Phase::switches)),
                    ratio(Phase::ms),
                    ratio(Phase::whole_cpu_us),
                ]
                .map(Cell::new),
            );
        }
    }
    rows
}

fn goals(cases: &[Case]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for case in cases {
        let soonest = case.soonest();
        let (name, ratio) = match &soonest {
            Some(soonest) => (NAMES[soonest.who], soonest.ratios.median()),
            None => ("the others", None),
        };
        if case.us == 10 {
            let words = format!("{} us of work: time of the fastest other, {name}", case.us);
            goals.push(Goal::at_least(words, 1.15, "x the fibers'", ratio));
            let ratios = case.rounds.ratios(ONE_WORKER, FIBERS, Phase::ms);
            let words = format!("{} us of work: time of the fibers on one worker", case.us);
            goals.push(Goal::at_least(words, 1.6, "x on two", ratios.median()));
        }
        let words = format!(
            "{} us of work: time of the fastest other, {name}, within noise",
            case.us
        );
        let limit = 1.0 - case.noise().unwrap_or(0.02);
        goals.push(Goal::at_least(words, limit, "x the fibers'", ratio));
    }
    goals
}

fn draw(cases: &[Case], out: &Path) -> Result<std::path::PathBuf> {
    let axis = Axis {
        title: "us of work in each request",
        last: f64::from(MICROSECONDS[MICROSECONDS.len() - 1]),
        logarithmic: false,
    };
    let panel = |title: &str, figure: fn(&Phase) -> f64| Panel {
        title: title.to_owned(),
        legend: SeriesLabelPosition::UpperLeft,
        lines: (FIBERS..AGAIN)
            .map(|who| Line {
                name: NAMES[who].to_owned(),
                points: cases
                    .iter()
                    .filter_map(|case| Some((f64::from(case.us), case.rounds.median(who, figure)?)))
                    .collect(),
            })
            .collect(),
    };
    let panels = [
        panel("time until all are done: ms", Phase::ms),
        panel("CPU: ms", |phase| phase.whole_cpu_us() / 1000.0),
    ];
    plot::write(&out.join("mixed.svg"), axis, 2, &panels)
}
