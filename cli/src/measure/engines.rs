//! Compares every engine with fio on the same kernel interface: random 4 KiB O_DIRECT reads by
//! fibers on one worker.
//!
//! A second fio on io_uring runs beside the pairs. It shows how much a ratio varies on this disk,
//! and defines 'within noise'.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use comfy_table::Cell;
use serde_json::{Value, json};

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::call_stats;
use crate::bench::data_file::data_file;
use crate::bench::fio::{Fio, Job};
use crate::bench::live::Hello;
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::rounds::{Rounds, in_time};

const COUNTS: [u32; 5] = [1, 8, 32, 128, 512];

/// The maximum number of threads of the engine `threads`, and of the fio it is compared with.
const MOST_THREADS: u32 = 64;

const NAMES: [&str; 7] = [
    "uring",
    "fio io_uring",
    "aio",
    "fio libaio",
    "threads",
    "fio psync",
    "fio io_uring again",
];
const URING: usize = 0;
const FIO_URING: usize = 1;
const AIO: usize = 2;
const THREADS: usize = 4;
const AGAIN: usize = 6;
/// The engines. The fio that an engine is compared with follows it in `NAMES`.
const ENGINES: [usize; 3] = [URING, AIO, THREADS];

struct Case {
    count: u32,
    rounds: Rounds,
}

impl Case {
    /// The noise of a ratio, or `None` without fio.
    fn noise(&self) -> Option<f64> {
        self.rounds.ratios(AGAIN, FIO_URING, Phase::rate).noise()
    }

    fn json(&self) -> Value {
        let ratios = ENGINES.map(|engine| {
            let value = json!({
                "iops": self.rounds.ratios(engine, engine + 1, Phase::rate),
                "cpu": self.rounds.ratios(engine, engine + 1, Phase::cpu_us),
            });
            (format!("{} by {}", NAMES[engine], NAMES[engine + 1]), value)
        });
        json!({
            "fibers": self.count,
            "by": self.rounds.json(&NAMES),
            "ratios": Value::Object(ratios.into_iter().collect()),
            "aio by uring": self.rounds.ratios(AIO, URING, Phase::rate),
            "noise": self.noise(),
        })
    }
}

/// Measures and checks the goals.
pub fn measure(bench: &Bench) -> Result<Part> {
    let ms = if bench.quick { 100 } else { 300 };
    let file = data_file(&bench.dir, if bench.quick { 128 } else { 1024 })?;
    let fio = Fio::find();
    let budget = bench.budget(12, 110);
    let progress = Progress::start("engines", budget);
    let mut failures = Vec::new();
    let mut missing = Vec::new();
    for engine in ENGINES {
        if let Err(error) = call_stats::ensure_engine(bench, NAMES[engine]) {
            failures.push(format!("{error:#}"));
            missing.push(engine);
        }
    }
    if fio.is_none() {
        missing.extend([FIO_URING, AIO + 1, THREADS + 1, AGAIN]);
    }
    let mut cases = COUNTS.map(|count| {
        let mut rounds = Rounds::of(NAMES.len());
        missing.iter().for_each(|&who| rounds.leave_out(who));
        Case { count, rounds }
    });
    let done = in_time(bench, budget, || {
        for case in &mut cases {
            let count = case.count;
            progress.show(&format!("O_DIRECT reads by {count}"));
            case.rounds.add(&mut failures, |who| {
                let phase = if ENGINES.contains(&who) {
                    fibers(bench, NAMES[who], count, &file, ms)
                } else {
                    fio.as_ref()
                        .context("no fio")
                        .and_then(|fio| fio.read(&file, job(who, count), ms))
                };
                phase.with_context(|| format!("{} by {count}", NAMES[who]))
            });
        }
    });
    drop(progress);

    let mut notes = vec![
        "ratio: the engine relative to the fio in the row below, within the same round, with \
        quartiles"
            .to_owned(),
    ];
    if fio.is_some() {
        notes.push(
            "fio counts whole milliseconds of CPU per thread: with many threads its figure is too \
            low"
            .to_owned(),
        );
    } else {
        notes.push(
            "fio is not installed, so the engines are only compared with each other: apt-get \
            install fio"
                .to_owned(),
        );
    }
    notes.extend(noise(&cases));
    let samples: Vec<Value> = cases.iter().map(Case::json).collect();
    Ok(Part {
        key: "engines",
        title: format!(
            "Engines: random O_DIRECT reads of 4 KiB, phases of {ms} ms, fibers on one worker, \
            threads and psync with \
             at most {MOST_THREADS} threads; rounds: {done}"
        ),
        table: rows(&cases),
        goals: goals(&cases, fio.is_some()),
        notes,
        failures,
        samples: json!(samples),
    })
}

fn fibers(bench: &Bench, engine: &str, count: u32, file: &Path, ms: u64) -> Result<Phase> {
    let mut command = bench
        .programs
        .command(&bench.programs.throughput, Load::Shim);
    command.args(["fibers", &count.to_string(), &ms.to_string(), "direct"]);
    command
        .arg(PathBuf::from(file))
        .env("AIOSHIM_ENGINE", engine);
    if engine == NAMES[THREADS] {
        command.env("AIOSHIM_THREADS", count.min(MOST_THREADS).to_string());
    }
    let meant = Hello {
        preloaded: true,
        fiber: true,
    };
    Phase::of(command, &format!("{count} fibers, {engine}"), meant)
}

fn job(who: usize, count: u32) -> Job {
    match who {
        FIO_URING | AGAIN => Job::uring(true, count),
        _ if who == AIO + 1 => Job {
            engine: "libaio",
            ..Job::uring(true, count)
        },
        _ => Job {
            engine: "psync",
            depth: 1,
            jobs: count.min(MOST_THREADS),
            direct: true,
        },
    }
}

/// Describes the noise that the second fio shows.
fn noise(cases: &[Case]) -> Option<String> {
    let each: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{:.0} % at {}", 100.0 * case.noise()?, case.count)))
        .collect();
    let worst = cases.iter().filter_map(Case::noise).reduce(f64::max)?;
    let word = if worst > 0.1 {
        "; above 10 % the disk is too unsteady to judge the bars"
    } else {
        ""
    };
    Some(format!(
        "noise: a second fio on io_uring differs by {} (distance of its median ratio from 1, or \
        the standard error of \
         that median, at least 2 %){word}",
        each.join(", ")
    ))
}

fn rows(cases: &[Case]) -> comfy_table::Table {
    let header = [
        "fibers",
        "by",
        "IOPS",
        "quartiles",
        "CPU us/read",
        "switches/read",
        "threads",
        "IOPS ratio",
        "CPU ratio",
    ];
    let mut rows = table(&header, 2, false);
    for Case { count, rounds, .. } in cases {
        for (who, name) in NAMES.into_iter().enumerate() {
            let Some((low, high)) = rounds.samples(who, Phase::rate).quartiles() else {
                continue;
            };
            let median = |figure: fn(&Phase) -> f64| rounds.median(who, figure).unwrap_or_default();
            let base = match who {
                AGAIN => Some(FIO_URING),
                _ => ENGINES.contains(&who).then_some(who + 1),
            };
            let ratio = |figure: fn(&Phase) -> f64| {
                base.map(|base| rounds.ratios(who, base, figure).describe())
                    .unwrap_or_default()
            };
            rows.add_row(
                [
                    count.to_string(),
                    name.to_owned(),
                    format!("{:.0}", median(Phase::rate)),
                    format!("{low:.0}..{high:.0}"),
                    format!("{:.2}", median(Phase::cpu_us)),
                    format!("{:.3}", median(Phase::switches)),
                    format!("{:.0}", median(|phase| phase.threads as f64)),
                    ratio(Phase::rate),
                    if who == THREADS {
                        String::new()
                    } else {
                        ratio(Phase::cpu_us)
                    },
                ]
                .map(Cell::new),
            );
        }
    }
    rows
}

/// The goals relative to fio are checked only if fio is installed.
fn goals(cases: &[Case], fio: bool) -> Vec<Goal> {
    let mut goals = Vec::new();
    for case in cases.iter().filter(|_| fio) {
        let count = case.count;
        let by = if count == 1 { "fiber" } else { "fibers" };
        let noise = case.noise().unwrap_or(0.02);
        let units = [
            (URING, "x fio io_uring's"),
            (AIO, "x fio libaio's"),
            (THREADS, "x fio psync's"),
        ];
        for (engine, unit) in units {
            let words = format!("{}, {count} {by}", NAMES[engine]);
            let ratio =
                |figure: fn(&Phase) -> f64| case.rounds.ratios(engine, engine + 1, figure).median();
            let iops = format!("{words}: IOPS, within noise");
            goals.push(Goal::at_least(iops, 1.0 - noise, unit, ratio(Phase::rate)));
            if engine != THREADS {
                let cpu = format!("{words}: CPU per read");
                goals.push(Goal::at_most(cpu, 0.9, unit, ratio(Phase::cpu_us)));
            }
        }
    }
    let deep = cases.iter().find(|case| case.count == 128);
    let refused = deep.and_then(|case| case.rounds.ratios(AIO, URING, Phase::rate).median());
    goals.push(Goal::at_least(
        "refused io_uring, aio, 128 fibers: IOPS",
        0.9,
        "x uring's",
        refused,
    ));
    goals
}
