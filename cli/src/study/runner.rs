//! Runs the experiments: the cells of each in turn, round by round, until its share of the time is
//! used up.
//!
//! Cells at the same point of the axes are measured within moments of each other, and each round
//! begins with another one of them, so neither a busy moment of the machine nor the order favours
//! one.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cell::Cell;
use super::experiment::{About, Experiment};
use super::experiments;
use super::file::{Length, Record, Study};
use super::interrupt;
use super::machine::Machine;
use super::progress::Progress;
use super::results::CellResults;
use crate::bench::noise::{self, Noise};

/// A first round may take this many times the experiment's share before it is cut short.
const PATIENCE: u32 = 2;

/// A full study measures everything twice, once in each half of its time, so the intervals of its
/// figures include how the machine changes meanwhile.
fn passes(study: &Study, machine: &Machine) -> u32 {
    match study.length {
        Length::Full if machine.bench.rounds.is_none() => 2,
        _ => 1,
    }
}

/// Measures the experiments that `wanted` selects within `time`, and goes on with what `study` has.
/// Writes the result file to `out` after each.
pub fn run(
    study: &mut Study,
    wanted: impl Fn(&About) -> bool,
    machine: &Machine,
    time: Duration,
    out: &Path,
) -> Result<()> {
    let end = Instant::now() + time;
    let progress = Progress::start(time);
    let passes = passes(study, machine);
    let mut turns: Vec<(u32, Box<dyn Experiment>)> = Vec::new();
    for pass in 1..=passes {
        turns.extend(experiments::all().into_iter().map(|e| (pass, e)));
    }
    turns.retain(|(pass, experiment)| {
        let about = experiment.about();
        let mut records = study.experiments.iter();
        let record = records.find(|record| record.id == about.id);
        let done = record.is_some_and(|record| record.finished || record.passes >= *pass);
        wanted(&about) && !done
    });
    let weight = |about: &About| machine.pick(about.weight);
    let mut weights: f64 = turns.iter().map(|(_, e)| weight(&e.about())).sum();
    // Each is dropped after its turn, and with it whatever it has mounted or started.
    for (pass, mut experiment) in turns {
        if interrupt::requested() {
            break;
        }
        let about = experiment.about();
        // What an experiment leaves of its time goes to those that follow.
        let left = end.saturating_duration_since(Instant::now());
        let share = left.mul_f64((weight(&about) / weights).min(1.0));
        weights -= weight(&about);
        let record = record_of(study, experiment.as_ref());
        match experiment.available(machine) {
            Ok(()) => measure(experiment.as_mut(), record, machine, share, &progress),
            Err(reason) if record.passes == 0 => {
                progress.say(&format!("{}: skipped: {reason}", about.id));
                record.skipped = Some(reason);
            }
            // The first pass has told the same, or has measured it.
            Err(_) => {}
        }
        if !interrupt::requested() {
            record.passes = pass;
            record.finished = pass == passes;
        }
        study.write(out)?;
    }
    study.complete = !interrupt::requested();
    study.write(out)?;
    Ok(())
}

/// The record of `experiment`, which may have been begun by an interrupted run.
fn record_of<'a>(study: &'a mut Study, experiment: &dyn Experiment) -> &'a mut Record {
    let about = experiment.about();
    let begun = study.experiments.iter().position(|r| r.id == about.id);
    let at = begun.unwrap_or_else(|| {
        study.experiments.push(Record {
            question: about.question,
            id: about.id.to_owned(),
            title: about.title.to_owned(),
            method: about.method.to_owned(),
            skipped: None,
            finished: false,
            passes: 0,
            rounds: 0,
            seconds: 0.0,
            processors_busy_with_others: None,
            notes: Vec::new(),
            failures: Vec::new(),
            answer: Default::default(),
            cells: Default::default(),
        });
        study.experiments.len() - 1
    });
    &mut study.experiments[at]
}

/// Measures one experiment for `share`. An error ends it, not the study.
fn measure(
    experiment: &mut dyn Experiment,
    record: &mut Record,
    machine: &Machine,
    share: Duration,
    progress: &Progress,
) {
    let others = Noise::watch();
    let start = Instant::now();
    progress.show(&record.title);
    record.notes.clear();
    record.skipped = None;
    match experiment.prepare(machine, &mut record.notes) {
        Ok(cells) => {
            let groups = groups(cells.iter());
            adopt(record, cells);
            rounds(
                experiment,
                record,
                machine,
                (&groups, start, share),
                progress,
            );
        }
        Err(error) if interrupt::requested() => drop(error),
        Err(error) => {
            let failure = format!("{error:#}");
            if !record.failures.contains(&failure) {
                record.failures.push(failure);
            }
        }
    }
    for cell in &mut record.cells.0 {
        cell.summarise();
    }
    record.seconds += start.elapsed().as_secs_f64();
    // Of several passes, the busiest one counts.
    let busy = [record.processors_busy_with_others, others.processors()];
    record.processors_busy_with_others = busy.into_iter().flatten().reduce(f64::max);
    let busy = record.processors_busy_with_others;
    record.notes.extend(busy.and_then(noise::warning));
    record.answer = experiment.answer(&record.cells);
}

/// Makes the cells of the record those of `cells`, and keeps the results that they have. Cells that
/// were measured before but cannot be now keep theirs, too, behind the others.
fn adopt(record: &mut Record, cells: Vec<Cell>) {
    let mut before = std::mem::take(&mut record.cells.0);
    record.cells.0 = cells
        .into_iter()
        .map(|cell| {
            let at = before.iter().position(|results| results.cell == cell);
            match at {
                Some(at) => before.remove(at),
                None => CellResults::new(cell),
            }
        })
        .collect();
    record.cells.0.extend(before);
}

fn rounds(
    experiment: &mut dyn Experiment,
    record: &mut Record,
    machine: &Machine,
    (groups, start, share): (&[Range<usize>], Instant, Duration),
    progress: &Progress,
) {
    let mut longest = Duration::ZERO;
    let first = record.rounds;
    loop {
        let done = record.rounds - first;
        let more = match machine.bench.rounds {
            Some(wanted) => done < wanted as usize,
            None => done == 0 || start.elapsed() + longest < share,
        };
        if !more || interrupt::requested() {
            break;
        }
        let began = Instant::now();
        for group in groups {
            let cut_short = machine.bench.rounds.is_none() && start.elapsed() > PATIENCE * share;
            if interrupt::requested() || cut_short {
                break;
            }
            for turn in 0..group.len() {
                let at = group.start + (turn + record.rounds) % group.len();
                sample(experiment, record, machine, at, progress);
            }
        }
        record.rounds += 1;
        longest = longest.max(began.elapsed());
        if start.elapsed() > PATIENCE * share && done == 0 {
            let unmeasured = record.cells.0.iter().filter(|c| c.figures.is_empty());
            let many = unmeasured.filter(|c| c.failure.is_none()).count();
            if many > 0 && !interrupt::requested() {
                record.notes.push(format!(
                    "the time was over before {many} of {} cells could be measured",
                    record.cells.0.len()
                ));
            }
        }
    }
}

fn sample(
    experiment: &mut dyn Experiment,
    record: &mut Record,
    machine: &Machine,
    at: usize,
    progress: &Progress,
) {
    let results = &mut record.cells.0[at];
    if results.failure.is_some() || interrupt::requested() {
        return;
    }
    progress.show(&format!("{}: {}", record.title, results.cell));
    match experiment.measure(machine, &results.cell) {
        // Ctrl-C reaches the programs of the measurement, too: the sample may be wrong.
        _ if interrupt::requested() => {}
        Ok(sample) => results.add(record.rounds, sample),
        Err(error) => {
            // It is not measured again: a hang takes long.
            let failure = format!("{}: {error:#}", results.cell);
            results.failure = Some(failure.clone());
            record.failures.push(failure);
        }
    }
}

/// The ranges of neighbouring cells at the same point.
fn groups<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut last = None;
    for (at, cell) in cells.enumerate() {
        match groups.last_mut() {
            Some(group) if last == Some(&cell.at) => group.end = at + 1,
            _ => groups.push(at..at + 1),
        }
        last = Some(&cell.at);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::{Cell, CellResults, Record, adopt, groups};
    use crate::study::cell::Sample;
    use crate::study::unit::Unit;

    #[test]
    fn a_second_pass_keeps_what_the_first_has_measured() {
        let mut results = CellResults::new(Cell::of("on a device that is gone"));
        results.add(0, Sample::of("time", Unit::Nanoseconds, 1.0));
        let mut record: Record = serde_json::from_value(serde_json::json!({
            "question": 1, "id": "", "title": "", "method": "", "skipped": null,
            "finished": false, "rounds": 1, "seconds": 1.0, "processors_busy_with_others": null,
            "notes": [], "failures": [], "cells": [results],
            "answer": {"sentence": "", "findings": {}, "plots": []},
        }))
        .expect("a record");
        adopt(&mut record, vec![Cell::of("new")]);
        let names = record.cells.0.iter().map(|c| c.cell.contender.as_str());
        assert!(names.eq(["new", "on a device that is gone"]));
        assert_eq!(record.cells.0[1].figures["time"].samples, [Some(1.0)]);
    }

    #[test]
    fn contenders_at_one_point_form_a_group() {
        let cells = [
            Cell::of("a").at("size", 1),
            Cell::of("b").at("size", 1),
            Cell::of("a").at("size", 2),
            Cell::of("b").at("size", 2),
            Cell::of("c").at("size", 2),
        ];
        assert_eq!(groups(cells.iter()), [0..2, 2..5]);
    }
}
