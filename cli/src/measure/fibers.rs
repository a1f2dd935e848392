//! The costs of fibers themselves: yielding, creating and joining, a tree of fibers, and waking and
//! stealing across workers; and the time and memory per fiber if very many fibers wait.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::goals::Goal;
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::live::{Hello, Live};
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::samples::Samples;

/// A figure that is measured in rounds.
struct Row {
    key: &'static str,
    title: &'static str,
    args: &'static [&'static str],
    load: Load,
    /// The number of calls per round: with --quick, and without.
    calls: (u64, u64),
}

const fn row(
    key: &'static str,
    title: &'static str,
    args: &'static [&'static str],
    load: Load,
    calls: (u64, u64),
) -> Row {
    Row {
        key,
        title,
        args,
        load,
        calls,
    }
}

const ROWS: [Row; 17] = [
    row(
        "yield_2",
        "fiber_yield, 2 fibers",
        &["yield", "2"],
        Load::Plain,
        (400_000, 400_000),
    ),
    row(
        "yield_2_shim",
        "fiber_yield, 2 fibers, preloaded",
        &["yield", "2"],
        Load::Shim,
        (400_000, 400_000),
    ),
    row(
        "yield_64",
        "fiber_yield, 64 fibers",
        &["yield", "64"],
        Load::Plain,
        (400_000, 400_000),
    ),
    row(
        "yield_64_shim",
        "fiber_yield, 64 fibers, preloaded",
        &["yield", "64"],
        Load::Shim,
        (400_000, 400_000),
    ),
    row(
        "yield_2_read",
        "fiber_yield, 2 fibers beside 10 in a read, preloaded",
        &["yield", "2", "10"],
        Load::Shim,
        (400_000, 400_000),
    ),
    row(
        "yield_64_read",
        "fiber_yield, 64 fibers beside 10 in a read, preloaded",
        &["yield", "64", "10"],
        Load::Shim,
        (400_000, 400_000),
    ),
    row(
        "yield_10000",
        "fiber_yield, 10,000 fibers",
        &["yield", "10000"],
        Load::Plain,
        (1_000_000, 4_000_000),
    ),
    row(
        "create",
        "fiber_create and fiber_join",
        &["create"],
        Load::Plain,
        (20_000, 20_000),
    ),
    row(
        "create_shim",
        "fiber_create and fiber_join, preloaded",
        &["create"],
        Load::Shim,
        (20_000, 20_000),
    ),
    row(
        "skynet",
        "skynet, per fiber",
        &["skynet"],
        Load::Plain,
        (100_000, 1_000_000),
    ),
    row(
        "wake_idle",
        "wake-up of an idle worker",
        &["wake", "idle"],
        Load::Plain,
        (1_000, 4_000),
    ),
    row(
        "wake_idle_shim",
        "wake-up of an idle worker, preloaded",
        &["wake", "idle"],
        Load::Shim,
        (1_000, 4_000),
    ),
    row(
        "wake_asleep",
        "wake-up of a worker that slept for long",
        &["wake", "asleep"],
        Load::Plain,
        (100, 400),
    ),
    row(
        "wake_threads",
        "  the same between pthreads, by sem_post",
        &["wake", "threads"],
        Load::Plain,
        (100, 400),
    ),
    row(
        "wake_busy",
        "wake-up across workers, to a busy worker",
        &["wake", "busy"],
        Load::Plain,
        (4_000, 10_000),
    ),
    row(
        "steal_1",
        "fiber_create until an idle worker has run the fiber",
        &["steal", "1"],
        Load::Plain,
        (400, 1_000),
    ),
    row(
        "steal_1000",
        "1000 fibers created on one worker, run on another, per fiber",
        &["steal", "1000"],
        Load::Plain,
        (10_000, 40_000),
    ),
];

/// Many fibers that wait at the same time: how they wait, and the title of that.
struct Crowd {
    key: &'static str,
    title: &'static str,
    load: Load,
    /// The number of fibers: with --quick, and without.
    count: (u32, u32),
    /// The title of the second step, or empty if there is none.
    then: &'static str,
}

const CROWDS: [Crowd; 3] = [
    Crowd {
        key: "parked",
        title: "each in a read of a pipe",
        load: Load::Shim,
        count: (100_000, 1_000_000),
        then: "",
    },
    Crowd {
        key: "waiting",
        title: "each in fiber_sem_wait",
        load: Load::Plain,
        count: (50_000, 1_000_000),
        then: "",
    },
    Crowd {
        key: "sleeping",
        title: "each in fiber_sleep",
        load: Load::Plain,
        count: (50_000, 1_000_000),
        then: "from a semaphore to sleep",
    },
];

/// The total time between two moments.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Step {
    ns: f64,
    user_ns: f64,
    system_ns: f64,
}

/// The output of fibers.c for a crowd.
#[derive(Debug, Deserialize, Serialize)]
struct Told {
    asked: u32,
    made: u32,
    /// Why no more fibers could be created; empty if all were.
    error: String,
    create: Step,
    /// From the start of each fiber to its first wait.
    park: Step,
    /// From there to the wait that is measured, if it is a different one.
    go_on: Step,
    wake: Step,
    resident_kib: f64,
    tables_kib: f64,
    slab_kib: f64,
}

impl Told {
    fn each(&self, whole: f64) -> f64 {
        whole / f64::from(self.made.max(1))
    }

    fn rows(&self, crowd: &Crowd) -> Vec<[String; 3]> {
        let memory = |what: &str, kib: f64| {
            let figure = format!("{:.0} B", self.each(kib * 1024.0));
            [format!("  {what}"), figure, String::new()]
        };
        let step = |what: &str, step: Step| {
            let [ns, user, system] =
                [step.ns, step.user_ns, step.system_ns].map(|ns| self.each(ns));
            let cpu = format!("user {user:.0}, kernel {system:.0}");
            [format!("  {what}"), format!("{ns:.0} ns"), cpu]
        };
        let title = format!(
            "{} fibers, {}: resident memory, total",
            self.made, crowd.title
        );
        let mut rows = vec![
            [
                title,
                format!("{:.1} MiB", self.resident_kib / 1024.0),
                String::new(),
            ],
            memory("resident, each", self.resident_kib),
            memory("page tables, per fiber", self.tables_kib),
            memory("kernel memory, per fiber", self.slab_kib),
            step("create, each", self.create),
            step("start and park, per fiber", self.park),
        ];
        if !crowd.then.is_empty() {
            rows.push(step(&format!("{}, each", crowd.then), self.go_on));
        }
        rows.push(step("wake, finish and join, per fiber", self.wake));
        rows
    }
}

/// Measures and checks the goals.
pub fn measure(bench: &Bench) -> Result<Part> {
    let budget = bench.budget(4, 20);
    let progress = Progress::start("fibers", budget);
    let mut failures = Vec::new();
    let mut notes = Vec::new();
    progress.show("switches, creations, wake-ups across workers");
    let all = in_rounds(bench, budget, &mut failures);
    let mut crowds = CROWDS.each_ref().map(|crowd| {
        progress.show(&format!(
            "{} fibers, {}",
            bench.pick(crowd.count),
            crowd.title
        ));
        let result = crowd_of(bench, crowd);
        result
            .map_err(|error| failures.push(format!("{error:#}")))
            .ok()
    });
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
    for (crowd, result) in CROWDS.iter().zip(&crowds) {
        let Some(result) = result else { continue };
        if !result.error.is_empty() {
            notes.push(format!(
                "only {} of {} fibers could be created: {}",
                result.made, result.asked, result.error
            ));
        }
        rows.add_rows(result.rows(crowd));
    }
    notes
        .push("kernel memory is the growth of unreclaimable slabs on the whole machine".to_owned());
    let of = |key| {
        ROWS.iter()
            .position(|row| row.key == key)
            .and_then(|i| all[i].median())
    };
    let parked = crowds[0].as_ref().filter(|result| result.error.is_empty());
    let resident = parked.map(|result| result.each(result.resident_kib));
    let goals = vec![
        Goal::at_most("fiber_yield between 2 fibers", 8.0, " ns", of("yield_2")),
        Goal::at_most("fiber_create and fiber_join", 120.0, " ns", of("create")),
        Goal::at_most(
            format!(
                "memory per fiber, {} parked fibers",
                bench.pick(CROWDS[0].count)
            ),
            4.7,
            " KiB",
            resident,
        ),
        Goal::at_most(
            "wake-up of an idle worker",
            5.0,
            " us",
            of("wake_idle").map(in_us),
        ),
        Goal::at_most(
            "wake-up across workers, to a busy worker",
            5.0,
            " us",
            of("wake_busy").map(in_us),
        ),
        Goal::at_most("skynet, per fiber", 0.5, " us", of("skynet").map(in_us)),
    ];
    let samples = ROWS
        .iter()
        .zip(&all)
        .map(|(row, samples)| (row.key.to_owned(), json!(samples)));
    let result = CROWDS
        .iter()
        .zip(&mut crowds)
        .map(|(crowd, result)| (crowd.key.to_owned(), json!(result)));
    let samples: Value = samples
        .chain(result)
        .collect::<serde_json::Map<_, _>>()
        .into();
    Ok(Part {
        key: "fibers",
        title: "Fibers: one worker, and wake-ups between two".to_owned(),
        table: rows,
        notes,
        failures,
        goals,
        samples,
    })
}

fn in_us(ns: f64) -> f64 {
    ns / 1000.0
}

/// Runs the programs of all rows at the same time; they take turns within each round.
fn in_rounds(bench: &Bench, budget: Duration, failures: &mut Vec<String>) -> [Samples; ROWS.len()] {
    let mut live = ROWS.each_ref().map(|row| {
        let mut command = bench.programs.command(&bench.programs.fibers, row.load);
        command.args(row.args);
        let meant = Hello {
            preloaded: row.load != Load::Plain,
            fiber: true,
        };
        let live = Live::start_rounds(command, row.title, meant);
        live.map_err(|error| failures.push(format!("{error:#}")))
            .ok()
    });
    let mut ns: [Vec<f64>; ROWS.len()] = Default::default();
    let start = Instant::now();
    let mut done = 0;
    while bench.more_rounds(done, 3, start.elapsed() < budget) {
        for ((row, live), ns) in ROWS.iter().zip(&mut live).zip(&mut ns) {
            match live.as_mut().map(|live| live.round(bench.pick(row.calls))) {
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

fn crowd_of(bench: &Bench, crowd: &Crowd) -> Result<Told> {
    if crowd.load != Load::Plain {
        bench.ensure_fibers_can_wait("parked fibers")?;
    }
    let count = bench.pick(crowd.count);
    let mut command = bench.programs.command(&bench.programs.fibers, crowd.load);
    command.args([crowd.key, &count.to_string()]);
    let name = format!("{count} fibers, {}", crowd.title);
    let mut live = Live::start(command, &name)?;
    // A million fibers touch gigabytes of new memory.
    let line = live.line_within(Duration::from_secs(300))?;
    live.end()?;
    serde_json::from_str(&line).with_context(|| format!("{name}: unexpected output {line:?}"))
}
