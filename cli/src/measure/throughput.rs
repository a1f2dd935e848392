//! Random 4 KiB reads: fibers, the same number of pthreads, and fio at the same depth, all on the
//! same file.
//!
//! The three take turns within a round. A ratio compares phases of the same round.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use comfy_table::Cell;
use plotters::prelude::SeriesLabelPosition;
use serde_json::{Value, json};

use super::goals::Goal;
use super::plot::{self, Axis, Line, Panel};
use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::call_stats;
use crate::bench::data_file::data_file;
use crate::bench::fio::{Fio, Job};
use crate::bench::live::Hello;
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::bench::progress::Progress;
use crate::bench::samples::Samples;

const COUNTS: [u32; 5] = [1, 8, 32, 128, 1024];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Fibers,
    Pthreads,
    Fio,
}

impl Who {
    const ALL: [Who; 3] = [Who::Fibers, Who::Pthreads, Who::Fio];

    fn name(self) -> &'static str {
        match self {
            Who::Fibers => "fibers",
            Who::Pthreads => "pthreads",
            Who::Fio => "fio",
        }
    }
}

/// One way of reading with one number of readers.
struct Case {
    direct: bool,
    count: u32,
    /// The participants that failed. They are not run again, because a hang takes long.
    failed: [bool; 3],
    /// One row per round, in the order of [`Who::ALL`].
    rounds: Vec<[Option<Phase>; 3]>,
}

impl Case {
    fn way(&self) -> &'static str {
        if self.direct { "direct" } else { "buffered" }
    }

    /// The figures of `who` in all rounds.
    fn of(&self, who: Who, figure: impl Fn(&Phase) -> f64) -> Samples {
        self.rounds
            .iter()
            .filter_map(|round| round[who as usize].as_ref())
            .map(figure)
            .collect()
    }

    /// The ratio of the fibers to `who` in each round that has both.
    fn ratios(&self, who: Who, figure: impl Fn(&Phase) -> f64) -> Samples {
        let both = self
            .rounds
            .iter()
            .filter_map(|round| round[0].as_ref().zip(round[who as usize].as_ref()));
        both.map(|(fibers, other)| figure(fibers) / figure(other))
            .collect()
    }

    /// Returns a note if the disk's own speed changed. Many virtual disks allow a burst and then
    /// impose a limit.
    fn unsteady(&self) -> Option<String> {
        let by_all = |round: &[Option<Phase>; 3]| {
            round.iter().flatten().map(Phase::rate).fold(0.0, f64::max)
        };
        let fastest = self.rounds.iter().map(by_all).fold(0.0, f64::max);
        let slowest = self.rounds.iter().map(by_all).fold(f64::INFINITY, f64::min);
        (fastest > 2.0 * slowest).then(|| {
            format!(
                "the disk is unsteady, {} reads by {} ran at {slowest:.0} to {fastest:.0} IOPS: \
                while it is throttled, \
                 IOPS say little and CPU per read is too high for all; ratios within one round are \
                 still valid",
                self.way(),
                self.count
            )
        })
    }

    fn json(&self) -> Value {
        let figures = Who::ALL.map(|who| {
            let phases: Vec<&Phase> = self
                .rounds
                .iter()
                .filter_map(|round| round[who as usize].as_ref())
                .collect();
            let value = json!({
                "iops": self.of(who, Phase::rate),
                "cpu_us_per_read": self.of(who, Phase::cpu_us),
                "fibers_iops_ratio": self.ratios(who, Phase::rate),
                "fibers_cpu_ratio": self.ratios(who, Phase::cpu_us),
                "phases": phases,
            });
            (who.name().to_owned(), value)
        });
        json!({ "way": self.way(), "readers": self.count,
            "by": Value::Object(figures.into_iter().collect()) })
    }
}

/// Measures all cases and checks the goals. Writes the plot to `out`.
pub fn measure(bench: &Bench, out: &Path) -> Result<Part> {
    let ms = if bench.quick { 200 } else { 500 };
    let file = data_file(&bench.dir, if bench.quick { 512 } else { 1024 })?;
    let fio = Fio::find();
    let budget = bench.budget(30, 130);
    let progress = Progress::start("throughput", budget);
    let mut failures = Vec::new();
    let mut notes = Vec::new();
    let can_wait = bench.ensure_fibers_can_wait("fibers' reads");
    let no_fibers = can_wait
        .map_err(|error| failures.push(format!("{error:#}")))
        .is_err();
    let mut cases: Vec<Case> = [true, false]
        .into_iter()
        .flat_map(|direct| {
            COUNTS.map(|count| Case {
                direct,
                count,
                failed: [no_fibers, false, false],
                rounds: Vec::new(),
            })
        })
        .collect();

    // The case that the goals refer to comes first, while the disk has not been throttled yet.
    cases.sort_by_key(|case| !is_judged(case));
    let start = Instant::now();
    let mut done = 0;
    let mut longest = std::time::Duration::ZERO;
    // Start another round only if it would end in time, assuming that it takes as long as the
    // longest so far.
    while bench.more_rounds(done, 1, start.elapsed() + longest < budget) {
        let began = Instant::now();
        for case in &mut cases {
            progress.show(&format!("{} reads by {}", case.way(), case.count));
            // Take more samples of the case that the goals refer to.
            for _ in 0..if is_judged(case) { 3 } else { 1 } {
                let round = Who::ALL.map(|who| {
                    if case.failed[who as usize] {
                        return None;
                    }
                    let phase = match who {
                        Who::Fio => {
                            fio.as_ref()?
                                .read(&file, Job::uring(case.direct, case.count), ms)
                        }
                        _ => ours(bench, who, case, &file, ms),
                    };
                    case.failed[who as usize] = phase.is_err();
                    phase
                        .map_err(|error| failures.push(format!("{error:#}")))
                        .ok()
                });
                case.rounds.push(round);
            }
        }
        longest = longest.max(began.elapsed());
        done += 1;
    }
    drop(progress);

    cases.sort_by_key(|case| (!case.direct, case.count));
    notes.extend(cases.iter().filter_map(Case::unsteady).take(1));
    notes.extend(flat(&cases));
    check(bench, &cases, &file, &mut notes, &mut failures);
    notes.push(
        "ratio: the fibers relative to this row, within the same round; O_DIRECT with 128 runs \
        three times per round"
            .to_owned(),
    );
    if fio.is_none() {
        notes
            .push("fio is not installed, so there is no reference: apt-get install fio".to_owned());
    }
    match draw(&cases, out) {
        Ok(path) => notes.push(format!("plot: {}", path.display())),
        Err(error) => failures.push(format!("plot: {error:#}")),
    }
    let samples: Vec<Value> = cases.iter().map(Case::json).collect();
    Ok(Part {
        key: "throughput",
        title: format!(
            "Throughput: random reads of 4 KiB, phases of {ms} ms, fibers on one worker; rounds: \
            {done}"
        ),
        table: rows(&cases),
        goals: goals(&cases),
        notes,
        failures,
        samples: json!(samples),
    })
}

/// Returns a note if more readers get no more from the disk. In that case the disk is measured, not
/// the readers.
fn flat(cases: &[Case]) -> Option<String> {
    let best = |count| {
        let case = cases
            .iter()
            .find(|case| case.direct && case.count == count)?;
        Who::ALL
            .iter()
            .filter_map(|&who| case.of(who, Phase::rate).median())
            .reduce(f64::max)
    };
    let (one, many) = (best(1)?, best(128)?);
    (many < 2.0 * one).then(|| {
        format!(
            "the disk gives 128 readers {many:.0} IOPS and a single one {one:.0}: it is slow or \
            throttled, so \
             IOPS say little about the readers"
        )
    })
}

/// Returns whether the goals refer to this case: O_DIRECT with 128 readers.
fn is_judged(case: &Case) -> bool {
    case.direct && case.count == 128
}

fn arguments(who: Who, case: &Case, file: &Path, ms: u64) -> Vec<String> {
    let words = [
        who.name(),
        &case.count.to_string(),
        &ms.to_string(),
        case.way(),
    ];
    let file = file.to_string_lossy().into_owned();
    words.into_iter().map(str::to_owned).chain([file]).collect()
}

/// Runs a phase of throughput.c: fibers with the preload, pthreads without.
fn ours(bench: &Bench, who: Who, case: &Case, file: &Path, ms: u64) -> Result<Phase> {
    let on_fibers = who == Who::Fibers;
    let load = if on_fibers { Load::Shim } else { Load::Plain };
    let mut command = bench.programs.command(&bench.programs.throughput, load);
    command.args(arguments(who, case, file, ms));
    let name = format!("{} {} {}", case.way(), case.count, who.name());
    let meant = Hello {
        preloaded: on_fibers,
        fiber: on_fibers,
    };
    Phase::of(command, &name, meant)
}

/// Checks that the reads went to the device, and that the shim converted the reads of the fibers.
fn check(
    bench: &Bench,
    cases: &[Case],
    file: &Path,
    notes: &mut Vec<String>,
    failures: &mut Vec<String>,
) {
    for case in cases {
        for who in [Who::Fibers, Who::Pthreads] {
            let bytes = case.of(who, |phase| {
                phase.device_bytes.unwrap_or(0) as f64 / phase.operations.max(1) as f64
            });
            if bytes.median().is_some_and(|bytes| bytes < 0.9 * 4096.0) {
                notes.push(format!(
                    "{} reads by {} {}: only {:.0} bytes per read came from the device, the rest \
                    from the page cache",
                    case.way(),
                    case.count,
                    who.name(),
                    bytes.median().unwrap_or_default()
                ));
            }
            if case
                .of(who, |phase| f64::from(phase.exhausted))
                .quartiles()
                .is_some_and(|(_, high)| high > 0.0)
            {
                notes.push(format!(
                    "{} reads by {} {}: phases ended early because every block of the file had \
                    been read",
                    case.way(),
                    case.count,
                    who.name()
                ));
            }
        }
        if case.count != 128 || bench.engine.is_none() {
            continue;
        }
        match call_stats::of_throughput(bench, &arguments(Who::Fibers, case, file, 50)) {
            Ok(counts) if counts.is_converted() => {}
            Ok(counts) => notes.push(format!(
                "{} reads were not converted: {}",
                case.way(),
                counts.describe()
            )),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
}

fn rows(cases: &[Case]) -> comfy_table::Table {
    let header = [
        "reads",
        "by",
        "IOPS",
        "quartiles",
        "CPU us/read",
        "quartiles",
        "switches/read",
        "threads",
        "peak MiB",
        "IOPS ratio",
        "CPU ratio",
    ];
    let mut rows = table(&header, 2, false);
    for case in cases {
        for who in Who::ALL {
            let median = |figure: fn(&Phase) -> f64| case.of(who, figure).median();
            let Some(iops) = median(Phase::rate) else {
                continue;
            };
            let spread =
                |figure: fn(&Phase) -> f64| case.of(who, figure).quartiles().unwrap_or_default();
            let (low, high) = spread(Phase::rate);
            let (low_cpu, high_cpu) = spread(Phase::cpu_us);
            let ratio = |figure: fn(&Phase) -> f64| match case.ratios(who, figure).median() {
                Some(ratio) if who != Who::Fibers => format!("{ratio:.2}x"),
                _ => String::new(),
            };
            let way = if case.direct { "O_DIRECT" } else { "cold" };
            rows.add_row(
                [
                    way.to_owned(),
                    format!("{} {}", case.count, who.name()),
                    format!("{iops:.0}"),
                    format!("{low:.0}..{high:.0}"),
                    format!("{:.2}", median(Phase::cpu_us).unwrap_or_default()),
                    format!("{low_cpu:.2}..{high_cpu:.2}"),
                    format!("{:.3}", median(Phase::switches).unwrap_or_default()),
                    format!(
                        "{:.0}",
                        median(|phase| phase.threads as f64).unwrap_or_default()
                    ),
                    format!(
                        "{:.1}",
                        median(|phase| phase.peak_rss_kib as f64).unwrap_or_default() / 1024.0
                    ),
                    ratio(Phase::rate),
                    ratio(Phase::cpu_us),
                ]
                .map(Cell::new),
            );
        }
    }
    rows
}

/// Writes `<dir>/throughput.svg`: IOPS above CPU per read, O_DIRECT on the left, cold on the right.
fn draw(cases: &[Case], dir: &Path) -> Result<PathBuf> {
    let axis = Axis {
        title: "readers",
        last: f64::from(*COUNTS.last().unwrap_or(&1)),
        logarithmic: true,
    };
    // With more readers, IOPS grow and the CPU per read shrinks. The legends are where no line
    // runs.
    let (below, above) = (
        SeriesLabelPosition::LowerRight,
        SeriesLabelPosition::UpperMiddle,
    );
    let panel =
        |title: &str, direct: bool, figure: fn(&Phase) -> f64, legend: &SeriesLabelPosition| {
            let points = |who| {
                let read = cases.iter().filter(|case| case.direct == direct);
                let seen = read.map(|case| (f64::from(case.count), case.of(who, figure).median()));
                seen.filter_map(|(count, value)| Some((count, value?)))
                    .collect()
            };
            let lines = Who::ALL.map(|who| Line {
                name: who.name().to_owned(),
                points: points(who),
            });
            Panel {
                title: title.to_owned(),
                lines: lines.into(),
                legend: legend.clone(),
            }
        };
    let panels = [
        panel("O_DIRECT: IOPS", true, Phase::rate, &below),
        panel("cold page cache: IOPS", false, Phase::rate, &below),
        panel("O_DIRECT: CPU us per read", true, Phase::cpu_us, &above),
        panel(
            "cold page cache: CPU us per read",
            false,
            Phase::cpu_us,
            &above,
        ),
    ];
    plot::write(&dir.join("throughput.svg"), axis, 2, &panels)
}

fn goals(cases: &[Case]) -> Vec<Goal> {
    let judged = cases.iter().find(|case| is_judged(case));
    let ratio =
        |who, figure: fn(&Phase) -> f64| judged.and_then(|case| case.ratios(who, figure).median());
    let words = "O_DIRECT, 128 fibers on one worker";
    vec![
        Goal::at_least(
            format!("{words}: IOPS"),
            0.97,
            "x fio's",
            ratio(Who::Fio, Phase::rate),
        ),
        Goal::at_least(
            format!("{words}: IOPS"),
            0.97,
            "x 128 pthreads'",
            ratio(Who::Pthreads, Phase::rate),
        ),
        Goal::at_most(
            format!("{words}: CPU per read"),
            0.40,
            "x 128 pthreads'",
            ratio(Who::Pthreads, Phase::cpu_us),
        ),
        Goal::at_most(
            format!("{words}: CPU per read"),
            1.0,
            "x fio's",
            ratio(Who::Fio, Phase::cpu_us),
        ),
    ]
}
