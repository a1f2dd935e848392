//! The cost of a stdio call that the stream's buffer can serve: plain and preloaded, on and off a
//! fiber.
//!
//! As in the overhead part, all processes stay alive and run short rounds in turn. A difference is
//! that of two rounds of the same pass, in nanoseconds.

use std::time::Instant;

use anyhow::Result;
use comfy_table::Cell;
use serde_json::{Value, json};

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::live::{Hello, Live};
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::samples::Samples;

/// The name of the call for stdio.c, the number of calls per round, and by how many nanoseconds it
/// may be slower on a fiber.
const CALLS: [(&str, u64, Option<f64>); 7] = [
    ("fputc", 500_000, Some(2.0)),
    ("getc", 500_000, Some(2.0)),
    ("fprintf", 15_000, Some(25.0)),
    ("fputs", 60_000, None),
    ("fwrite", 60_000, None),
    ("fgets", 60_000, None),
    ("fread", 60_000, None),
];

/// How a process is started, and the place argument for stdio.c.
const MODES: [(Load, &str); 4] = [
    (Load::Plain, "off"),
    (Load::Shim, "off"),
    (Load::Plain, "fiber"),
    (Load::Shim, "fiber"),
];
/// The columns of the table: a mode, and the mode it is compared with.
const COMPARED: [(&str, usize, usize); 2] = [("off a fiber", 1, 0), ("on a fiber", 3, 2)];

/// The rounds of one call, with one column per mode.
type Rounds = Vec<[f64; MODES.len()]>;

fn differences(rounds: &Rounds, mode: usize, base: usize) -> Samples {
    rounds
        .iter()
        .map(|round| round[mode] - round[base])
        .collect()
}

/// Measures all calls and checks the goals.
pub fn measure(bench: &Bench) -> Result<Part> {
    let budget = bench.budget(6, 30);
    let progress = Progress::start("stdio", budget);
    let mut failures = Vec::new();
    let mut goals = Vec::new();
    let mut rows = table(
        &[
            "call",
            "plain",
            "preloaded, off a fiber",
            "preloaded, on a fiber",
        ],
        1,
        true,
    );
    let mut samples = serde_json::Map::new();
    for (call, calls, limit) in CALLS {
        progress.show(call);
        let rounds = match measure_call(bench, call, calls, budget / CALLS.len() as u32) {
            Ok(rounds) => rounds,
            Err(error) => {
                failures.push(format!("{error:#}"));
                Rounds::new()
            }
        };
        let plain: Samples = rounds.iter().map(|round| round[0]).collect();
        let mut row = vec![Cell::new(call), Cell::new(shown(plain.median(), ""))];
        let mut value = json!({ "plain": plain });
        for (title, mode, base) in COMPARED {
            let more = differences(&rounds, mode, base);
            row.push(Cell::new(shown(more.median(), "+")));
            value[title] = json!(more);
        }
        rows.add_row(row);
        samples.insert(call.to_owned(), value);
        if let Some(limit) = limit {
            let more = differences(&rounds, 3, 2).median();
            goals.push(Goal::at_most(
                format!("{call} on a fiber"),
                limit,
                "ns more",
                more,
            ));
        }
    }
    drop(progress);
    Ok(Part {
        key: "stdio",
        title: "stdio: ns per call that the buffer can serve".to_owned(),
        table: rows,
        goals,
        notes: vec![
            "medians of the rounds; + is the median of each round's difference from plain"
                .to_owned(),
        ],
        failures,
        samples: Value::Object(samples),
    })
}

fn shown(ns: Option<f64>, sign: &str) -> String {
    match ns {
        Some(ns) if sign.is_empty() => format!("{ns:.1}"),
        Some(ns) => format!("{ns:+.1}"),
        None => "failed".to_owned(),
    }
}

fn measure_call(
    bench: &Bench,
    call: &str,
    calls: u64,
    budget: std::time::Duration,
) -> Result<Rounds> {
    let mut live = Vec::new();
    for (load, place) in MODES {
        let mut command = bench.programs.command(&bench.programs.stdio, load);
        command.args([call, place]).arg(&bench.calls_dir);
        let meant = Hello {
            preloaded: load != Load::Plain,
            fiber: place == "fiber",
        };
        live.push(Live::start_rounds(
            command,
            format!("{call} ({place})"),
            meant,
        )?);
    }
    let (start, mut rounds) = (Instant::now(), Rounds::new());
    while bench.more_rounds(rounds.len(), 1, start.elapsed() < budget) {
        let mut round = [0.0; MODES.len()];
        for (ns, live) in round.iter_mut().zip(&mut live) {
            *ns = live.round(calls)?;
        }
        rounds.push(round);
    }
    for live in live {
        live.end()?;
    }
    Ok(rounds)
}
