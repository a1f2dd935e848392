//! Whole programs, each one source that is compiled for fibers and for pthreads: a directory
//! indexer, a copy of a tree, servers under load, a log writer, a build-like storm of processes,
//! and a computation that is split among fibers.
//!
//! Every participant may use the same two processors. The load generator has its own thread, which
//! shares them with the server if there are no more.

pub mod case;
mod judge;
mod loadgen;
pub mod nginx;
mod processors;
pub mod redis_benchmark;
pub mod run;
mod tree;

use anyhow::{Context, Result, ensure};
use comfy_table::Cell;
use serde_json::{Value, json};

use super::report::{Part, table};
use crate::bench::Bench;
use crate::bench::progress::Progress;
use crate::bench::rounds::in_time;
use case::{Case, Client, Kind, Work};
use nginx::Nginx;
use processors::PROCESSORS;
use run::Run;

/// Measures and judges all programs.
pub fn measure(bench: &Bench) -> Result<Part> {
    let place = run::Place::prepare(bench)?;
    let mut failures = Vec::new();
    let mut notes = vec![
        "ratio: relative to the first row of each program, within the same round, with quartiles; \
        each program is one source, compiled for fibers or for pthreads"
            .to_owned(),
        format!(
            "fibers are preloaded; all participants use the same {PROCESSORS} processors, or one \
            where it says so; CPU is that of the program or server, not of the load generator"
        ),
        "cold: the data of the files was dropped from the page cache, their names and inodes were \
        not"
        .to_owned(),
    ];
    let mut cases = case::all(bench);
    leave_out(bench, &mut cases, &mut notes, &mut failures);

    let budget = bench.budget(30, 210);
    let progress = Progress::start("programs", budget);
    let done = in_time(bench, budget, || {
        for Case {
            name,
            work,
            participants,
            rounds,
            sum,
        } in &mut cases
        {
            rounds.add(&mut failures, |who| {
                let participant = &participants[who];
                progress.show(&format!("{name} by {}", participant.name));
                let run = run::run(bench, &place, *work, participant);
                run.and_then(|run| {
                    let expected = *sum.get_or_insert(run.sum);
                    ensure!(
                        run.sum == expected,
                        "did other work: its sum is {}, not {expected}",
                        run.sum
                    );
                    Ok(run)
                })
                .with_context(|| format!("{name}, {}", participant.name))
            });
        }
    });
    drop(progress);

    let duels = judge::duels(&cases);
    notes.extend(judge::losses(&duels));
    notes.extend(failed_requests(&cases));
    Ok(Part {
        key: "programs",
        title: format!("{}; rounds: {done}", judge::verdict(&duels)),
        table: rows(&cases),
        goals: judge::goals(&cases, &duels),
        notes,
        failures,
        samples: samples(&cases),
    })
}

/// Excludes the participants that cannot run here, with the reason.
fn leave_out(
    bench: &Bench,
    cases: &mut [Case],
    notes: &mut Vec<String>,
    failures: &mut Vec<String>,
) {
    let mut exclude = |wanted: fn(Work, Kind) -> bool| {
        for case in &mut *cases {
            for (who, participant) in case.participants.iter().enumerate() {
                if wanted(case.work, participant.kind) {
                    case.rounds.leave_out(who);
                }
            }
        }
    };
    if let Err(error) = bench.ensure_fibers_can_wait("fibers' programs") {
        failures.push(format!("{error:#}"));
        exclude(|_, kind| matches!(kind, Kind::Fibers { .. }));
    }
    match Nginx::version() {
        Some(version) => notes.push(format!(
            "{version}: {PROCESSORS} workers with sendfile, without an access log"
        )),
        None => {
            notes.push(
                "nginx is not installed, so there is no reference: apt-get install nginx-light"
                    .to_owned(),
            );
            exclude(|_, kind| kind == Kind::Nginx);
        }
    }
    match redis_benchmark::version() {
        Some(version) => notes.push(format!(
            "{version} sends SET and GET to the key-value server, one kind after the other"
        )),
        None => {
            notes.push(
                "redis-benchmark is not installed, so it is no client of the key-value server: \
                apt-get install redis-tools"
                    .to_owned(),
            );
            exclude(|work, _| {
                let Work::KeyValue { client, .. } = work else {
                    return false;
                };
                matches!(client, Client::RedisBenchmark { .. })
            });
        }
    }
}

/// Returns a note for each participant whose requests failed.
fn failed_requests(cases: &[Case]) -> Vec<String> {
    let mut notes = Vec::new();
    for case in cases {
        for (who, participant) in case.participants.iter().enumerate() {
            let failed = case.failed_requests(who);
            if failed > 0.0 {
                notes.push(format!(
                    "failed requests: {failed:.0} of {} by {}, in all rounds",
                    case.name, participant.name
                ));
            }
        }
    }
    notes
}

fn rows(cases: &[Case]) -> comfy_table::Table {
    let header = [
        "program",
        "by",
        "a second",
        "quartiles",
        "CPU us each",
        "p99 ms",
        "rate ratio",
        "CPU ratio",
    ];
    let mut rows = table(&header, 2, false);
    for case in cases {
        for (who, participant) in case.participants.iter().enumerate() {
            let Some((low, high)) = case.rounds.samples(who, Run::rate).quartiles() else {
                continue;
            };
            let median =
                |figure: fn(&Run) -> f64| case.rounds.median(who, figure).unwrap_or_default();
            let ratio = |figure: fn(&Run) -> f64| match who {
                0 => String::new(),
                _ => case.rounds.ratios(who, 0, figure).describe(),
            };
            let p99 = if case.work.is_server() {
                format!("{:.2}", median(Run::p99_us) / 1000.0)
            } else {
                String::new()
            };
            rows.add_row(
                [
                    case.name.clone(),
                    participant.name.to_owned(),
                    format!("{:.0}", median(Run::rate)),
                    format!("{low:.0}..{high:.0}"),
                    format!("{:.1}", median(Run::cpu_us_each)),
                    p99,
                    ratio(Run::rate),
                    ratio(Run::cpu_us_each),
                ]
                .map(Cell::new),
            );
        }
    }
    rows
}

fn samples(cases: &[Case]) -> Value {
    let of = |case: &Case| {
        let by = case.participants.iter().enumerate().map(|(who, by)| {
            let value = json!({
                "rate": case.rounds.samples(who, Run::rate),
                "ms": case.rounds.samples(who, Run::ms),
                "cpu_us_each": case.rounds.samples(who, Run::cpu_us_each),
                "p50_us": case.work.is_server().then(|| case.rounds.samples(who, Run::p50_us)),
                "p99_us": case.work.is_server().then(|| case.rounds.samples(who, Run::p99_us)),
                "failed_requests": case.failed_requests(who),
                "rate_ratio": case.rounds.ratios(who, 0, Run::rate),
                "cpu_ratio": case.rounds.ratios(who, 0, Run::cpu_us_each),
            });
            (by.name.to_owned(), value)
        });
        json!({ "program": case.name, "by": Value::Object(by.collect()) })
    };
    json!(cases.iter().map(of).collect::<Vec<_>>())
}
