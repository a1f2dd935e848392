//! Buffered reads of data that is not in the page cache: random ones by many readers, sequential
//! ones by one.

use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Cell;
use serde_json::json;

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::data_file::data_file;
use crate::bench::live::Hello;
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::rounds::{Rounds, in_time};

/// One way of reading. `names` lists the fibers, the participant they are compared with, and that
/// participant again.
struct Way {
    title: &'static str,
    /// The argument for throughput.c.
    word: &'static str,
    bytes: f64,
    readers: u32,
    names: [&'static str; 3],
}

const RANDOM: usize = 0;
const SEQUENTIAL: usize = 1;

const WAYS: [Way; 2] = [
    Way {
        title: "random 4 KiB",
        word: "buffered",
        bytes: 4096.0,
        readers: 128,
        names: ["128 fibers", "128 pthreads", "128 pthreads again"],
    },
    Way {
        title: "sequential 64 KiB",
        word: "sequential",
        bytes: 65536.0,
        readers: 1,
        names: ["1 fiber", "plain", "plain again"],
    },
];
const FIBERS: usize = 0;
const OTHER: usize = 1;
const AGAIN: usize = 2;

/// Measures and checks the goals.
pub fn measure(bench: &Bench) -> Result<Part> {
    let ms = if bench.quick { 100 } else { 400 };
    let file = data_file(&bench.dir, if bench.quick { 128 } else { 1024 })?;
    let budget = bench.budget(8, 45);
    let progress = Progress::start("cold", budget);
    let mut failures = Vec::new();
    let mut all = WAYS.each_ref().map(|way| Rounds::of(way.names.len()));
    if let Err(error) = bench.ensure_fibers_can_wait("fibers' cold reads") {
        failures.push(format!("{error:#}"));
        all.iter_mut().for_each(|rounds| rounds.leave_out(FIBERS));
    }
    let done = in_time(bench, budget, || {
        for (way, rounds) in WAYS.iter().zip(&mut all) {
            rounds.add(&mut failures, |who| {
                progress.show(&format!("{} by {}", way.title, way.names[who]));
                run(bench, way, who, &file, ms)
            });
        }
    });
    drop(progress);

    let mut notes = vec![
        "ratio: relative to the second row of each kind of read, within the same round, with \
        quartiles"
            .to_owned(),
    ];
    for (way, rounds) in WAYS.iter().zip(&all) {
        for (who, name) in way.names.into_iter().enumerate() {
            if let Some(part) = rounds
                .device_part(who, way.bytes)
                .filter(|part| *part < 0.9)
            {
                notes.push(format!(
                    "{} by {name}: only {:.0} % of the bytes were read from the device",
                    way.title,
                    100.0 * part
                ));
            }
        }
    }
    let ratio =
        |way: usize, figure: fn(&Phase) -> f64| all[way].ratios(FIBERS, OTHER, figure).median();
    let samples: serde_json::Map<_, _> = WAYS
        .iter()
        .zip(&all)
        .map(|(way, rounds)| {
            let value = json!({
                "by": rounds.json(&way.names),
                "rate_ratio": rounds.ratios(FIBERS, OTHER, Phase::rate),
                "cpu_ratio": rounds.ratios(FIBERS, OTHER, Phase::cpu_us),
                "noise": rounds.ratios(AGAIN, OTHER, Phase::rate).noise(),
            });
            (way.word.to_owned(), value)
        })
        .collect();
    Ok(Part {
        key: "cold",
        title: format!(
            "Cold: buffered reads of uncached data, phases of {ms} ms, fibers on one worker; \
            rounds: {done}"
        ),
        table: rows(&all),
        goals: vec![
            Goal::at_least(
                "cold 4 KiB, 128 fibers: IOPS",
                1.0,
                "x 128 pthreads'",
                ratio(RANDOM, Phase::rate),
            ),
            Goal::at_most(
                "cold 4 KiB, 128 fibers: CPU per read",
                0.5,
                "x 128 pthreads'",
                ratio(RANDOM, Phase::cpu_us),
            ),
            Goal::at_least(
                "cold sequential 64 KiB, 1 fiber: throughput",
                0.98,
                "x a plain reader's",
                ratio(SEQUENTIAL, Phase::rate),
            ),
        ],
        notes,
        failures,
        samples: samples.into(),
    })
}

fn run(bench: &Bench, way: &Way, who: usize, file: &Path, ms: u64) -> Result<Phase> {
    let (kind, load) = match who {
        FIBERS => ("fibers", Load::Shim),
        _ => ("pthreads", Load::Plain),
    };
    let mut command = bench.programs.command(&bench.programs.throughput, load);
    command.args([kind, &way.readers.to_string(), &ms.to_string(), way.word]);
    command.arg(file);
    let meant = Hello {
        preloaded: who == FIBERS,
        fiber: who == FIBERS,
    };
    let name = format!("{} by {}", way.title, way.names[who]);
    Phase::of(command, &name, meant).with_context(|| format!("cold: {name}"))
}

fn rows(all: &[Rounds]) -> comfy_table::Table {
    let header = [
        "reads",
        "by",
        "a second",
        "quartiles",
        "MiB/s",
        "CPU us/read",
        "switches/read",
        "threads",
        "rate ratio",
        "CPU ratio",
    ];
    let mut rows = table(&header, 2, false);
    for (way, rounds) in WAYS.iter().zip(all) {
        for (who, name) in way.names.into_iter().enumerate() {
            let Some((low, high)) = rounds.samples(who, Phase::rate).quartiles() else {
                continue;
            };
            let median = |figure: fn(&Phase) -> f64| rounds.median(who, figure).unwrap_or_default();
            let ratio = |figure: fn(&Phase) -> f64| match who {
                OTHER => String::new(),
                _ => rounds.ratios(who, OTHER, figure).describe(),
            };
            rows.add_row(
                [
                    way.title.to_owned(),
                    name.to_owned(),
                    format!("{:.0}", median(Phase::rate)),
                    format!("{low:.0}..{high:.0}"),
                    format!(
                        "{:.0}",
                        median(Phase::rate) * way.bytes / f64::from(1 << 20)
                    ),
                    format!("{:.2}", median(Phase::cpu_us)),
                    format!("{:.3}", median(Phase::switches)),
                    format!("{:.0}", median(|phase| phase.threads as f64)),
                    ratio(Phase::rate),
                    ratio(Phase::cpu_us),
                ]
                .map(Cell::new),
            );
        }
    }
    rows
}
