//! The cost of one call in every mode: plain, preloaded off a fiber, and on fibers.
//!
//! The processes of all modes stay alive and run rounds of a few milliseconds in turn. A ratio
//! compares two rounds of the same pass. The memory layout of a process changes such short times by
//! a few per cent, so all processes are restarted several times.

use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::Cell;
use serde_json::{Value, json};

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::call_stats;
use crate::bench::live::{Hello, Live};
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::samples::Samples;

struct Call {
    /// The argument for overhead.c.
    key: &'static str,
    title: &'static str,
    /// The libc name of the call in the shim's statistics.
    symbol: &'static str,
}

const fn call(key: &'static str, title: &'static str, symbol: &'static str) -> Call {
    Call { key, title, symbol }
}

const CALLS: [Call; 9] = [
    call("read1", "read 1 B", "read"),
    call("read4k", "read 4 KiB", "read"),
    call("read64k", "read 64 KiB", "read"),
    call("pread4k", "pread 4 KiB", "pread"),
    call("pread4k-shared", "pread 4 KiB, 1 fd", "pread"),
    call("write4k", "write 4 KiB", "write"),
    call("pwrite4k", "pwrite 4 KiB", "pwrite"),
    call("open+close", "open+close", "open"),
    call("fsync", "fsync, clean", "fsync"),
];

struct Mode {
    key: &'static str,
    title: &'static str,
    load: Load,
    place: Place,
    slots: u32,
    /// The mode that it is compared with.
    base: Option<usize>,
}

/// Where the calls are made, as an argument for overhead.c.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Off,
    Fibers,
    Beside,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Place::Off => "off",
            Place::Fibers => "fibers",
            Place::Beside => "beside",
        }
    }
}

const PLAIN: usize = 0;
const AGAIN: usize = 1;
const PLAIN_64: usize = 2;
const OFF_FIBER: usize = 3;
const SWITCHED_OFF: usize = 4;
const LONE: usize = 5;
const BESIDE: usize = 6;
const AMONG: usize = 7;

const fn mode(
    key: &'static str,
    title: &'static str,
    load: Load,
    place: Place,
    slots: u32,
    base: Option<usize>,
) -> Mode {
    Mode {
        key,
        title,
        load,
        place,
        slots,
        base,
    }
}

/// The modes, in the order of a round. The second plain process shows the noise of a ratio. A fiber
/// that is alone delays no other fiber, so the shim may pass its calls through. If another fiber
/// waits beside it, the shim may not.
#[rustfmt::skip]
const MODES: [Mode; 8] = [
    mode("plain", "plain", Load::Plain, Place::Off, 1, None),
    mode("plain_again", "plain again", Load::Plain, Place::Off, 1, Some(PLAIN)),
    mode("plain_64", "plain,\n64 buffers", Load::Plain, Place::Off, 64, None),
    mode("off_fiber", "preloaded,\noff a fiber", Load::Shim, Place::Off, 1, Some(PLAIN)),
    mode("switched_off", "on a fiber,\nAIOSHIM=off", Load::ShimOff, Place::Fibers, 1, Some(PLAIN)),
    mode("lone", "lone fiber", Load::Shim, Place::Fibers, 1, Some(PLAIN)),
    mode("beside", "lone, beside\none that waits", Load::Shim, Place::Beside, 1, Some(PLAIN)),
    mode("among_64", "among 64\nrunnable", Load::Shim, Place::Fibers, 64, Some(PLAIN_64)),
];

/// The target duration of a round of the plain mode.
const ROUND_NS: f64 = 2.5e6;
/// The minimum number of rounds, however slow a call is.
const FEWEST_ROUNDS: usize = 1;

/// All rounds of one call, with one column per mode; `None` where a mode failed.
#[derive(Default)]
struct Rounds {
    calls: u64,
    ns: Vec<[Option<f64>; MODES.len()]>,
}

impl Rounds {
    fn of(&self, mode: usize) -> Samples {
        self.ns.iter().filter_map(|round| round[mode]).collect()
    }

    /// The ratio of this mode to its base in each round that has both.
    fn ratios(&self, mode: usize) -> Samples {
        let base = MODES[mode].base.unwrap_or(mode);
        let both = self
            .ns
            .iter()
            .filter_map(|round| round[mode].zip(round[base]));
        both.map(|(ns, base)| ns / base).collect()
    }

    fn ratio(&self, mode: usize) -> Option<f64> {
        self.ratios(mode).median()
    }

    fn json(&self) -> Value {
        let modes = MODES.iter().enumerate().map(|(i, mode)| {
            let mut value = json!({ "ns": self.of(i) });
            if let Some(base) = mode.base {
                value["base"] = json!(MODES[base].key);
                value["ratio"] = json!(self.ratios(i));
            }
            (mode.key.to_owned(), value)
        });
        json!({ "calls_per_round": self.calls, "rounds": self.ns.len(),
            "modes": Value::Object(modes.collect()) })
    }
}

/// Measures all calls and checks the goals.
pub fn measure(bench: &Bench) -> Result<Part> {
    let budget = bench.budget(12, 60);
    let progress = Progress::start("overhead", budget);
    let mut failures = Vec::new();
    let mut notes = vec![
        "times are medians of the rounds; ratios are medians of each round's ratio to plain (among \
        64: to plain, 64 \
         buffers), with quartiles"
            .to_owned(),
    ];
    let mut through = Through::default();
    let mut failed = [false; MODES.len()];
    if let Err(error) = bench.ensure_fibers_can_wait("a lone fiber beside a waiting one") {
        failures.push(format!("{error:#}"));
        failed[BESIDE] = true;
    }
    let mut all = Vec::new();
    let start = Instant::now();
    for (done, call) in CALLS.iter().enumerate() {
        progress.show(call.title);
        // The remaining calls share the time that is left after a slow call.
        let left = budget.saturating_sub(start.elapsed());
        let share = left / u32::try_from(CALLS.len() - done).unwrap_or(1);
        let rounds = measure_call(bench, call, share, failed, &mut failures);
        check_calls(bench, call, &mut through, &mut failures);
        all.push(rounds);
    }
    drop(progress);

    let mut columns = vec!["call"];
    let shown = [
        PLAIN,
        PLAIN_64,
        OFF_FIBER,
        SWITCHED_OFF,
        LONE,
        BESIDE,
        AMONG,
    ];
    columns.extend(shown.iter().map(|&i| MODES[i].title));
    let mut rows = table(&columns, 1, true);
    for (call, rounds) in CALLS.iter().zip(&all) {
        let mut row = vec![Cell::new(call.title)];
        row.extend(shown.iter().map(|&i| Cell::new(cell(rounds, i))));
        rows.add_row(row);
    }
    notes.push(noise(&all));
    for (mode, calls) in MODES
        .iter()
        .zip(&through)
        .filter(|(_, calls)| !calls.is_empty())
    {
        let title = mode.title.replace('\n', " ");
        notes.push(format!(
            "{title}: the shim passed these through: {}",
            calls.join(", ")
        ));
    }
    let samples = CALLS
        .iter()
        .zip(&all)
        .map(|(call, rounds)| (call.key.to_owned(), rounds.json()));
    Ok(Part {
        key: "overhead",
        title: "Overhead: ns per call, cached".to_owned(),
        table: rows,
        goals: goals(&all),
        notes,
        failures,
        samples: Value::Object(samples.collect()),
    })
}

/// Runs all generations of processes for one call.
fn measure_call(
    bench: &Bench,
    call: &Call,
    share: Duration,
    mut failed: [bool; MODES.len()],
    failures: &mut Vec<String>,
) -> Rounds {
    let generations: u32 = if bench.quick { 3 } else { 8 };
    let mut rounds = Rounds::default();
    for generation in 0..generations {
        // The user's number of rounds (--rounds) is divided among the generations of processes; if
        // that leaves a remainder, the first generations run one round more.
        let wanted = bench
            .rounds
            .map(|n| (n + generations - 1 - generation) / generations);
        if wanted == Some(0) {
            break;
        }
        let deadline = Instant::now() + share / generations;
        let mut live = start_all(bench, call, &mut failed, failures);
        if rounds.calls == 0 {
            rounds.calls = calls_per_round(&mut live[PLAIN]);
        }
        let mut done = 0;
        loop {
            let more = match wanted {
                Some(wanted) => done < wanted as usize,
                None => Instant::now() < deadline || rounds.ns.len() < FEWEST_ROUNDS,
            };
            if !more {
                break;
            }
            rounds
                .ns
                .push(round(&mut live, rounds.calls, &mut failed, failures));
            done += 1;
        }
        for live in live.into_iter().flatten() {
            note_failure(live.end(), failures);
        }
    }
    rounds
}

fn start_all(
    bench: &Bench,
    call: &Call,
    failed: &mut [bool; MODES.len()],
    failures: &mut Vec<String>,
) -> [Option<Live>; MODES.len()] {
    std::array::from_fn(|i| {
        if failed[i] {
            return None;
        }
        let mode = &MODES[i];
        let mut command = bench.programs.command(&bench.programs.overhead, mode.load);
        command
            .args([call.key, mode.place.word(), &mode.slots.to_string()])
            .arg(&bench.calls_dir);
        let meant = Hello {
            preloaded: mode.load != Load::Plain,
            fiber: mode.place != Place::Off,
        };
        let live = note_failure(
            Live::start_rounds(command, format!("{} ({})", call.title, mode.key), meant),
            failures,
        );
        failed[i] = live.is_none();
        live
    })
}

/// Runs one round of every mode, in order.
fn round(
    live: &mut [Option<Live>; MODES.len()],
    calls: u64,
    failed: &mut [bool; MODES.len()],
    failures: &mut Vec<String>,
) -> [Option<f64>; MODES.len()] {
    std::array::from_fn(|i| {
        let ns = note_failure(live[i].as_mut()?.round(calls), failures);
        if ns.is_none() {
            failed[i] = true;
            live[i] = None;
        }
        ns
    })
}

/// Returns the number of calls with which a plain round has its target duration. It is a multiple
/// of 64, for 64 fibers.
fn calls_per_round(plain: &mut Option<Live>) -> u64 {
    let mut calls = 64;
    while calls < 1 << 20 {
        match plain.as_mut().map(|live| live.round(calls)) {
            Some(Ok(ns)) if ns * (calls as f64) < ROUND_NS => calls *= 2,
            _ => break,
        }
    }
    calls
}

fn note_failure<T>(result: Result<T>, failures: &mut Vec<String>) -> Option<T> {
    result
        .map_err(|error| failures.push(format!("{error:#}")))
        .ok()
}

/// Per mode, the calls that the shim treated differently from what the name of the mode suggests.
type Through = [Vec<String>; MODES.len()];

/// Checks the shim's statistics of one call in the modes in which the shim is active.
fn check_calls(bench: &Bench, call: &Call, through: &mut Through, failures: &mut Vec<String>) {
    for mode in [LONE, BESIDE, AMONG] {
        if mode == BESIDE && bench.engine.is_none() {
            continue;
        }
        let Mode { place, slots, .. } = MODES[mode];
        match call_stats::of_call(bench, call.key, call.symbol, place.word(), slots) {
            Ok(counts) if counts.is_converted() => {}
            Ok(counts) => {
                through[mode].push(format!("{} ({})", call.title, counts.through.join(", ")))
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
}

/// Formats a cell: "263 ns", and "1.06x 1.04..1.08" below if the mode has a base.
fn cell(rounds: &Rounds, mode: usize) -> String {
    let Some(ns) = rounds.of(mode).median() else {
        return "failed".to_owned();
    };
    let ns = if ns < 100.0 {
        format!("{ns:.1}")
    } else {
        format!("{ns:.0}")
    };
    let second = if MODES[mode].base.is_some() {
        let ratios = rounds.ratios(mode);
        let (low, high) = ratios.quartiles().unwrap_or_default();
        format!(
            "{:.2}x {low:.2}..{high:.2}",
            ratios.median().unwrap_or_default()
        )
    } else {
        let (low, high) = rounds.of(mode).quartiles().unwrap_or_default();
        format!("{low:.0}..{high:.0}")
    };
    format!("{ns}\n{second}")
}

/// Describes the noise: a ratio that should be exactly 1.
fn noise(all: &[Rounds]) -> String {
    let medians: Samples = all
        .iter()
        .filter_map(|rounds| rounds.ratio(AGAIN))
        .collect();
    let spread: Samples = all
        .iter()
        .filter_map(|rounds| rounds.ratios(AGAIN).quartiles())
        .map(|(low, high)| high - low)
        .collect();
    format!(
        "noise: a second plain process took {:.3}x the time of the first (median over the calls, \
        quartiles {:.3} apart); {} rounds",
        medians.median().unwrap_or(f64::NAN),
        spread.median().unwrap_or(f64::NAN),
        all.iter().map(|rounds| rounds.ns.len()).sum::<usize>(),
    )
}

fn goals(all: &[Rounds]) -> Vec<Goal> {
    let rounds = |key| {
        CALLS
            .iter()
            .position(|call| call.key == key)
            .map(|i| &all[i])
    };
    let (pread, shared) = (rounds("pread4k"), rounds("pread4k-shared"));
    // Off a fiber the shim must not be noticeable: the ratio may exceed 1 by no more than the
    // second plain process shows by chance, or by 2 % if that is less. Both figures are medians
    // over the calls, so one call on a busy disk does not excuse the others.
    let seen: Samples = all
        .iter()
        .filter_map(|rounds| rounds.ratio(OFF_FIBER))
        .collect();
    let chance = all.iter().filter_map(|rounds| rounds.ratio(AGAIN));
    let chance: Samples = chance.map(|ratio| (ratio - 1.0).abs()).collect();
    let noise = 1.0 + chance.median().unwrap_or(0.0).max(0.02);
    vec![
        Goal::at_most(
            "off a fiber, median over the calls, within noise",
            noise,
            "x plain",
            seen.median(),
        ),
        Goal::at_most(
            "lone cached pread of 4 KiB",
            1.15,
            "x plain",
            pread.and_then(|p| p.ratio(LONE)),
        ),
        Goal::at_most(
            "cached pread of 4 KiB among 64, one shared descriptor",
            1.0,
            "x plain with 64 buffers",
            shared.and_then(|p| p.ratio(AMONG)),
        ),
        Goal::at_most(
            "cached pread of 4 KiB among 64, one descriptor each",
            1.0,
            "x plain with 64 buffers",
            pread.and_then(|p| p.ratio(AMONG)),
        ),
    ]
}
