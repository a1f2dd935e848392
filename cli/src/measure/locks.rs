//! The cost of locking and unlocking an uncontended lock: plain, and preloaded on and off a fiber.
//!
//! As in the overhead part, the processes stay alive and run short rounds in turn, and a ratio
//! compares two rounds of the same pass. A pair takes a few nanoseconds, and the memory layout of a
//! process changes that by a few per cent. Therefore all processes are restarted after a number of
//! rounds.

use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::Cell;
use serde_json::{Value, json};

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::live::{Hello, Live};
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::rounds::{Rounds, in_time};
use crate::bench::samples::Samples;

/// The kinds of locks: the argument for locks.c, and the title of the pair of calls.
const KINDS: [(&str, &str); 5] = [
    ("normal", "normal mutex"),
    ("recursive", "recursive mutex"),
    ("rwlock", "rwlock, for reading"),
    ("wrlock", "rwlock, for writing"),
    ("sem", "semaphore"),
];

/// The number of threads that the process has had, as an argument for locks.c. libc omits atomic
/// operations if there has been only one.
const THREADS: [&str; 2] = ["one", "many"];

/// How a process is started, and the place argument for locks.c.
const MODES: [(&str, Load, &str); 4] = [
    ("plain", Load::Plain, "thread"),
    ("plain again", Load::Plain, "thread"),
    ("off a fiber", Load::Shim, "thread"),
    ("on a fiber", Load::Shim, "fiber"),
];
const PLAIN: usize = 0;
const AGAIN: usize = 1;
const OFF_FIBER: usize = 2;
const ON_FIBER: usize = 3;

/// The maximum time of a pair on a fiber relative to the plain one.
const LIMIT: f64 = 1.3;
/// The number of pairs per round, which take about a millisecond.
const PAIRS: u64 = 100_000;
/// The number of rounds before a process is restarted.
const LIFE: usize = 50;

struct Case {
    kind: &'static str,
    title: &'static str,
    threads: &'static str,
    /// Nanoseconds per pair.
    rounds: Rounds<f64>,
}

impl Case {
    fn name(&self) -> String {
        format!(
            "{}, {} thread{}",
            self.title,
            self.threads,
            if self.threads == "one" { "" } else { "s" }
        )
    }

    fn ratios(&self, mode: usize) -> Samples {
        self.rounds.ratios(mode, PLAIN, |&ns| ns)
    }

    fn json(&self) -> Value {
        let modes = MODES.iter().enumerate().map(|(mode, (name, ..))| {
            let ns = self.rounds.samples(mode, |&ns| ns);
            (
                (*name).to_owned(),
                json!({ "ns": ns, "by_plain": self.ratios(mode) }),
            )
        });
        json!({ "kind": self.kind, "threads": self.threads,
            "modes": Value::Object(modes.collect()) })
    }
}

fn cases() -> Vec<Case> {
    let of = |(kind, title)| {
        THREADS.map(|threads| Case {
            kind,
            title,
            threads,
            rounds: Rounds::of(MODES.len()),
        })
    };
    KINDS.into_iter().flat_map(of).collect()
}

/// Measures and checks the goals.
pub fn measure(bench: &Bench) -> Result<Part> {
    let budget = bench.budget(5, 20);
    let progress = Progress::start("locks", budget);
    let mut failures = Vec::new();
    let mut cases = cases();
    let (start, mut left) = (Instant::now(), cases.len() as u32);
    for case in &mut cases {
        progress.show(&case.name());
        measure_case(
            bench,
            case,
            budget.saturating_sub(start.elapsed()) / left,
            &mut failures,
        );
        left -= 1;
    }
    drop(progress);
    let mut notes = vec![
        "a pair is a lock and its unlock (a post and a wait of the semaphore) by one thread, \
        without contention; many \
         threads: the process has had a second thread, which has ended"
            .to_owned(),
        "ns are medians of the rounds; a ratio is the median of each round's ratio to plain, with \
        quartiles"
            .to_owned(),
    ];
    notes.extend(noise(&cases));
    let samples: Vec<Value> = cases.iter().map(Case::json).collect();
    Ok(Part {
        key: "locks",
        title: "Locks: ns per pair of lock and unlock, uncontended".to_owned(),
        table: rows(&cases),
        goals: goals(&cases),
        notes,
        failures,
        samples: json!(samples),
    })
}

fn measure_case(bench: &Bench, case: &mut Case, budget: Duration, failures: &mut Vec<String>) {
    let name = case.name();
    let (kind, threads) = (case.kind, case.threads);
    let mut live: [Option<Live>; MODES.len()] = Default::default();
    let mut done = 0;
    in_time(bench, budget, || {
        if done % LIFE == 0 {
            end(&mut live, failures);
        }
        done += 1;
        case.rounds.add(failures, |mode| {
            // A process is put back only after a successful round.
            let mut process = match live[mode].take() {
                Some(process) => process,
                None => start(bench, mode, kind, threads, &name)?,
            };
            let ns = process.round(PAIRS)?;
            live[mode] = Some(process);
            Ok(ns)
        });
    });
    end(&mut live, failures);
}

fn start(bench: &Bench, mode: usize, kind: &str, threads: &str, name: &str) -> Result<Live> {
    let (title, load, place) = MODES[mode];
    let mut command = bench.programs.command(&bench.programs.locks, load);
    command.args([kind, place, threads]);
    let meant = Hello {
        preloaded: load != Load::Plain,
        fiber: place == "fiber",
    };
    Live::start_rounds(command, format!("{name} ({title})"), meant)
}

fn end(live: &mut [Option<Live>], failures: &mut Vec<String>) {
    let ended = live.iter_mut().filter_map(Option::take).map(Live::end);
    failures.extend(
        ended
            .filter_map(Result::err)
            .map(|error| format!("{error:#}")),
    );
}

/// Describes the noise: the ratios of plain to itself.
fn noise(cases: &[Case]) -> Option<String> {
    let medians: Samples = cases
        .iter()
        .filter_map(|case| case.ratios(AGAIN).median())
        .collect();
    let (low, high) = medians.range()?;
    Some(format!(
        "noise: plain compared with itself is {low:.2}x to {high:.2}x, by case"
    ))
}

fn rows(cases: &[Case]) -> comfy_table::Table {
    let header = [
        "lock",
        "threads",
        "plain",
        "preloaded,\noff a fiber",
        "ratio",
        "on a fiber",
        "ratio",
    ];
    let mut rows = table(&header, 2, false);
    for case in cases {
        let ns = |mode| match case.rounds.median(mode, |&ns| ns) {
            Some(ns) => format!("{ns:.1}"),
            None => "failed".to_owned(),
        };
        rows.add_row(
            [
                case.title.to_owned(),
                case.threads.to_owned(),
                ns(PLAIN),
                ns(OFF_FIBER),
                case.ratios(OFF_FIBER).describe(),
                ns(ON_FIBER),
                case.ratios(ON_FIBER).describe(),
            ]
            .map(Cell::new),
        );
    }
    rows
}

fn goals(cases: &[Case]) -> Vec<Goal> {
    let goal = |case: &Case| {
        let ratio = case.ratios(ON_FIBER).median();
        Goal::at_most(
            format!("{} on a fiber", case.name()),
            LIMIT,
            "x plain",
            ratio,
        )
    };
    cases.iter().map(goal).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, bail};

    use super::{MODES, ON_FIBER, PLAIN, cases, goals, noise};

    #[test]
    fn a_bar_is_about_the_ratios_of_each_round() {
        let mut cases = cases();
        let mut failures = Vec::new();
        // The machine gets slower from round to round, but the ratio stays the same.
        for slowness in [1.0, 2.0, 4.0] {
            let figure = |mode| -> Result<f64> {
                Ok(match mode {
                    ON_FIBER => 12.0 * slowness,
                    _ => 10.0 * slowness,
                })
            };
            cases[1].rounds.add(&mut failures, figure);
        }
        let goals: Vec<String> = goals(&cases).iter().map(ToString::to_string).collect();
        assert_eq!(
            goals[0],
            "bar: normal mutex, one thread on a fiber <= 1.30x plain: not measured"
        );
        assert_eq!(
            goals[1],
            "bar: normal mutex, many threads on a fiber <= 1.30x plain: 1.20x plain ok"
        );
        assert_eq!(
            noise(&cases).as_deref(),
            Some("noise: plain compared with itself is 1.00x to 1.00x, by case")
        );
        assert_eq!(failures, [""; 0]);
    }

    #[test]
    fn without_plain_there_is_no_ratio() {
        let mut case = cases().remove(0);
        case.rounds.add(&mut Vec::new(), |mode| match mode {
            PLAIN => bail!("it failed"),
            _ => Ok(1.0),
        });
        for mode in 0..MODES.len() {
            assert_eq!(case.ratios(mode).median(), None);
        }
    }
}
