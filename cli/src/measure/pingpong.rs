//! Eight bytes back and forth over socket pairs: fibers on each engine, the same number of
//! pthreads, and a hand-written epoll loop.
//!
//! The epoll loop and the fibers run on one thread. The pthreads may use all processors, and so may
//! the engine's own threads.

use anyhow::{Context, Result, ensure};
use comfy_table::Cell;
use serde_json::{Value, json};

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::call_stats;
use crate::bench::live::Live;
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::rounds::{Rounds, in_time};
use crate::bench::samples::Samples;

const PAIRS: u32 = 64;

const NAMES: [&str; 6] = [
    "epoll loop",
    "epoll loop again",
    "128 pthreads",
    "128 fibers, uring",
    "128 fibers, aio",
    "128 fibers, threads",
];
const EPOLL: usize = 0;
const AGAIN: usize = 1;
const PTHREADS: usize = 2;
const URING: usize = 3;
/// The fibers' entries in `NAMES`, and the values for AIOSHIM_ENGINE.
const ENGINES: [(usize, &str); 3] = [(URING, "uring"), (4, "aio"), (5, "threads")];

/// The maximum time of a round trip of fibers on io_uring relative to the pthreads.
const LIMIT: f64 = 1.0;

/// Nanoseconds per round trip.
type Trips = Rounds<f64>;

fn ratios(rounds: &Trips, who: usize, base: usize) -> Samples {
    rounds.ratios(who, base, |&ns| ns)
}

/// Measures and checks the goal.
pub fn measure(bench: &Bench) -> Result<Part> {
    // The number of round trips of each pair, in one run.
    let trips: u32 = if bench.quick { 100 } else { 300 };
    let budget = bench.budget(6, 25);
    let progress = Progress::start("pingpong", budget);
    let mut failures = Vec::new();
    let mut notes = vec![
        "ratio: the median of each round's ratio to the epoll loop and to the pthreads, with \
        quartiles; below 1 it is \
         faster than they are"
            .to_owned(),
        "the epoll loop and the fibers run on one thread; pthreads and the engine's own threads \
        use all processors"
            .to_owned(),
    ];
    let mut rounds = Trips::of(NAMES.len());
    for (who, engine) in ENGINES {
        progress.show(NAMES[who]);
        match check(bench, who, engine) {
            Ok(note) => notes.extend(note),
            Err(error) => {
                failures.push(format!("{error:#}"));
                rounds.leave_out(who);
            }
        }
    }
    let done = in_time(bench, budget, || {
        rounds.add(&mut failures, |who| {
            progress.show(NAMES[who]);
            run(bench, who, trips)
        });
    });
    drop(progress);
    if let Some(ratio) = ratios(&rounds, AGAIN, EPOLL).noise() {
        notes.push(format!(
            "noise: the epoll loop compared with itself shows that a ratio is uncertain by \
            {ratio:.2}"
        ));
    }
    Ok(Part {
        key: "pingpong",
        title: format!(
            "Ping-pong: 8 bytes back and forth, {PAIRS} pairs, {trips} round trips each; rounds: \
            {done}"
        ),
        table: rows(&rounds),
        goals: goals(&rounds),
        notes,
        failures,
        samples: samples(&rounds),
    })
}

/// The command that runs pingpong.c as the participant `who`.
fn command(bench: &Bench, who: usize, trips: u32) -> std::process::Command {
    let engine = ENGINES.iter().find(|&&(fibers, _)| fibers == who);
    let load = if engine.is_some() {
        Load::Shim
    } else {
        Load::Plain
    };
    let mut command = bench.programs.command(&bench.programs.pingpong, load);
    match (who, engine) {
        (PTHREADS, _) => command.arg("pthreads"),
        (_, Some((_, engine))) => command.arg("fibers").env("AIOSHIM_ENGINE", engine),
        _ => command.arg("epoll"),
    };
    command.args([PAIRS.to_string(), trips.to_string()]);
    command
}

/// Checks that the engine is available. Returns a note if the shim did not convert most of the
/// receives.
fn check(bench: &Bench, who: usize, engine: &str) -> Result<Option<String>> {
    call_stats::ensure_engine(bench, engine)?;
    let name = format!("check of ping-pong, {}", NAMES[who]);
    let counts = call_stats::of_run(bench, command(bench, who, 10), &name, "recv")?;
    Ok((!counts.is_converted())
        .then(|| format!("{}: not converted: {}", NAMES[who], counts.describe())))
}

fn run(bench: &Bench, who: usize, trips: u32) -> Result<f64> {
    let mut live = Live::start(
        command(bench, who, trips),
        format!("ping-pong, {}", NAMES[who]),
    )?;
    let line = live.line()?;
    live.end()?;
    nanoseconds(&line).with_context(|| format!("ping-pong, {}", NAMES[who]))
}

/// Parses the line that pingpong.c prints.
fn nanoseconds(line: &str) -> Result<f64> {
    let ns = line
        .strip_suffix(" ns a round trip")
        .and_then(|ns| ns.parse::<f64>().ok());
    let ns = ns.with_context(|| format!("said {line:?}"))?;
    ensure!(ns > 0.0, "completed no round trip: {line:?}");
    Ok(ns)
}

fn rows(rounds: &Trips) -> comfy_table::Table {
    let mut rows = table(
        &[
            "by",
            "ns per round trip",
            "quartiles",
            "relative to the epoll loop",
            "relative to the pthreads",
        ],
        1,
        false,
    );
    for (who, name) in NAMES.into_iter().enumerate() {
        let ns = rounds.samples(who, |&ns| ns);
        let Some((ns, (low, high))) = ns.median().zip(ns.quartiles()) else {
            continue;
        };
        let by = |base| {
            if who == base {
                String::new()
            } else {
                ratios(rounds, who, base).describe()
            }
        };
        rows.add_row(
            [
                name.to_owned(),
                format!("{ns:.0}"),
                format!("{low:.0}..{high:.0}"),
                by(EPOLL),
                by(PTHREADS),
            ]
            .map(Cell::new),
        );
    }
    rows
}

fn goals(rounds: &Trips) -> Vec<Goal> {
    vec![Goal::at_most(
        "64 pairs of fibers on one worker, uring: time of a round trip",
        LIMIT,
        "x 128 pthreads'",
        ratios(rounds, URING, PTHREADS).median(),
    )]
}

fn samples(rounds: &Trips) -> Value {
    let by = NAMES.iter().enumerate().map(|(who, name)| {
        let value = json!({
            "ns": rounds.samples(who, |&ns| ns),
            "by_epoll_loop": ratios(rounds, who, EPOLL),
            "by_pthreads": ratios(rounds, who, PTHREADS),
        });
        ((*name).to_owned(), value)
    });
    Value::Object(by.collect())
}

#[cfg(test)]
mod tests {
    use super::{EPOLL, NAMES, PTHREADS, Trips, URING, goals, nanoseconds};

    #[test]
    fn the_line_is_understood_or_shown() {
        assert_eq!(nanoseconds("1234 ns a round trip").ok(), Some(1234.0));
        for line in ["0 ns a round trip", "nan ns a round trip", "1234 ns", ""] {
            let error = nanoseconds(line).expect_err(line).to_string();
            assert!(error.contains(&format!("{line:?}")), "{error}");
        }
    }

    #[test]
    fn uring_is_judged_by_the_pthreads() {
        let mut rounds = Trips::of(NAMES.len());
        rounds.add(&mut Vec::new(), |who| {
            Ok(match who {
                EPOLL => 1000.0,
                PTHREADS => 2000.0,
                URING => 1200.0,
                _ => 9000.0,
            })
        });
        let said: Vec<String> = goals(&rounds).iter().map(ToString::to_string).collect();
        let of = "bar: 64 pairs of fibers on one worker, uring: time of a round trip";
        assert_eq!(
            said,
            [format!(
                "{of} <= 1.00x 128 pthreads': 0.60x 128 pthreads' ok"
            )]
        );
    }
}
