//! A page of prose whose figures come from a result file: the parts between two marks, which are
//! Markdown comments, are written again, and everything else stays.
//!
//! ```text
//! <!-- study: answer map -->
//! ... the sentence of the experiment `map`
//! <!-- end -->
//! ```
//!
//! A page with all its figures between marks has figures of one run only.

use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};

use super::agreement::Comparison;
use super::html::rounds;
use super::markdown::{rows, section_notes};
use super::plots;
use super::sentence::{plain, sentence};
use super::verdict::{NO_VERDICT, verdict};
use super::view::{ExperimentView, experiments};
use crate::study::file::{Length, Study};

const BEGIN: &str = "<!-- study: ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";

/// The widest line of a paragraph.
const COLUMNS: usize = 100;

/// What a mark may name, for the error about one that names something else.
const KINDS: &str = "machine, verdict, agreement, rounds, notes, answer ID, or table ID N";

/// Writes the parts of `page` between marks again, with the figures of `study`; `again` is a second
/// run of it. Returns the page and the number of these parts.
pub fn refresh(page: &str, study: &Study, again: Option<&Study>) -> Result<(String, usize)> {
    let mut text = String::new();
    let mut many = 0;
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let _ = writeln!(text, "{line}");
        let Some(name) = line.strip_prefix(BEGIN) else {
            ensure!(line != END, "line {}: {END} without a begin", at + 1);
            continue;
        };
        let name = name
            .strip_suffix(CLOSE)
            .with_context(|| format!("line {}: the comment does not end", at + 1))?;
        let part = part(name, study, again).with_context(|| format!("line {}", at + 1))?;
        let end = lines.find(|(_, line)| *line == END || line.starts_with(BEGIN));
        let ended = matches!(end, Some((_, END)));
        ensure!(ended, "line {}: {END} is missing", at + 1);
        let _ = writeln!(text, "\n{}\n\n{END}", part.trim());
        many += 1;
    }
    ensure!(many > 0, "there is no line that begins with {BEGIN}");
    Ok((text, many))
}

/// What stands between the marks of `name`.
fn part(name: &str, study: &Study, again: Option<&Study>) -> Result<String> {
    let experiments = experiments(study, "");
    let words: Vec<&str> = name.split(' ').collect();
    Ok(match words[..] {
        ["machine"] => paragraph(&machine(study)),
        ["verdict"] => verdict_list(&experiments),
        ["agreement"] => agreement(study, again),
        ["rounds"] => rounds_table(&experiments),
        ["notes"] => notes(&experiments),
        ["answer", id] => of_experiment(&experiments, id, answer),
        ["table", id, number] => {
            let number: usize = number.parse().with_context(|| format!("table {number}"))?;
            of_experiment(&experiments, id, |of| table(of, number))
        }
        _ => bail!("unknown mark {name:?}; expected {KINDS}"),
    })
}

fn machine(study: &Study) -> String {
    let length = match study.length {
        Length::Quick => "a quick study",
        Length::Full => "a full study",
    };
    format!("{}: {length}.", study.machine.in_words())
}

fn verdict_list(experiments: &[ExperimentView]) -> String {
    let sentences = verdict(experiments);
    if sentences.is_empty() {
        return paragraph(NO_VERDICT);
    }
    let items = sentences.iter().enumerate();
    items
        .map(|(i, pieces)| item(&format!("{}. ", i + 1), &plain(pieces)))
        .collect()
}

/// What `write` makes of the experiment `id`, or that it was not measured.
fn of_experiment(
    experiments: &[ExperimentView],
    id: &str,
    write: impl FnOnce(&ExperimentView) -> String,
) -> String {
    match experiments.iter().find(|e| e.record.id == id) {
        None => format!("(This study did not ask it: {id}.)"),
        Some(experiment) => match &experiment.record.skipped {
            Some(reason) => paragraph(&format!("Not measured: {reason}.")),
            None => write(experiment),
        },
    }
}

fn answer(experiment: &ExperimentView) -> String {
    let pieces = sentence(&experiment.record.answer.sentence, experiment);
    paragraph(&plain(&pieces))
}

/// The table of plot `number`, which counts from 1.
fn table(experiment: &ExperimentView, number: usize) -> String {
    let plots = &experiment.record.answer.plots;
    let plot = number.checked_sub(1).and_then(|at| plots.get(at));
    let table = plot.and_then(|plot| plots::table(plot, experiment));
    match table {
        Some(table) => rows(&table),
        None => "(Nothing of this table was measured.)".to_owned(),
    }
}

fn agreement(study: &Study, again: Option<&Study>) -> String {
    let Some(again) = again else {
        return "No second run was compared with this one.".to_owned();
    };
    let (left, right) = (experiments(study, "A"), experiments(again, "B"));
    let comparison = Comparison::of(&left, &right);
    let mut text = paragraph(&format!(
        "A second run began at {}. {}",
        again.machine.date(),
        comparison.sentence()
    ));
    text.push('\n');
    for line in comparison.by_experiment() {
        text += &item("- ", &format!("{line}."));
    }
    for ratio in comparison.disagreements() {
        text += &item("- ", &format!("{}.", ratio.in_words()));
    }
    text
}

fn rounds_table(experiments: &[ExperimentView]) -> String {
    let measured = experiments.iter().filter(|e| e.record.skipped.is_none());
    let line = |e: &ExperimentView| {
        let busy = e.record.processors_busy_with_others;
        let busy = busy.map_or_else(|| "-".to_owned(), |busy| format!("{busy:.2}"));
        format!("| {} | {} | {busy} |\n", e.record.id, rounds(e.record))
    };
    let head =
        "| experiment | measured | processors busy with other programs |\n| --- | --- | --- |\n";
    measured.fold(head.to_owned(), |text, e| text + &line(e))
}

/// What could not be measured and what a reader must know, by experiment.
fn notes(experiments: &[ExperimentView]) -> String {
    let mut text = String::new();
    for experiment in experiments {
        for note in section_notes(experiment.record) {
            text += &item(
                "- ",
                &format!(
                    "*{}*: {}.",
                    experiment.record.title,
                    note.trim_end_matches('.')
                ),
            );
        }
    }
    if text.is_empty() {
        text += "Nothing: the run has no note.";
    }
    text
}

/// A list item whose further lines are indented.
fn item(mark: &str, text: &str) -> String {
    wrapped(&format!("{mark}{text}"), &" ".repeat(mark.len()))
}

fn paragraph(text: &str) -> String {
    wrapped(text, "")
}

fn wrapped(text: &str, indent: &str) -> String {
    super::terminal::wrapped(text, indent, COLUMNS)
}
