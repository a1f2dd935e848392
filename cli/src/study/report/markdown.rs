//! The report as Markdown: the same sentences, with tables for the plots.

use std::fmt::Write;

use super::plots::{Table, table};
use super::questions::question;
use super::sentence::{plain, sentence};
use super::verdict::{NO_VERDICT, verdict};
use super::view::{ExperimentView, experiments};
use crate::study::file::{Record, Study};

/// The whole text. `name` is the name of the result file.
pub fn page(study: &Study, name: &str) -> String {
    let experiments = experiments(study, "");
    let mut text = format!(
        "# When does asynchronous I/O beat blocking I/O?\n\n{}\n\n",
        study.machine.in_words()
    );
    let sentences = verdict(&experiments);
    for (i, pieces) in sentences.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", i + 1, plain(pieces));
    }
    if sentences.is_empty() {
        let _ = writeln!(text, "{NO_VERDICT}");
    }
    if let Some(note) = super::html::incomplete(study) {
        let _ = writeln!(text, "\n{note}");
    }
    for number in 1..=9 {
        let _ = writeln!(text, "\n## {number}. {}", question(number));
        for experiment in experiments.iter().filter(|e| e.record.question == number) {
            text += &section(experiment);
        }
    }
    let _ = writeln!(
        text,
        "\nMedians, with 95 % bootstrap intervals in {name}, which holds every sample."
    );
    text
}

fn section(experiment: &ExperimentView) -> String {
    let record = experiment.record;
    let mut text = format!("\n### {}\n\n", record.title);
    if let Some(reason) = &record.skipped {
        let _ = writeln!(text, "Not measured: {reason}.");
        return text;
    }
    let _ = writeln!(
        text,
        "{}",
        plain(&sentence(&record.answer.sentence, experiment))
    );
    for plot in &record.answer.plots {
        if let Some(of) = table(plot, experiment) {
            let _ = write!(text, "\n{}:\n\n{}", plot.title, rows(&of));
        }
    }
    let _ = writeln!(
        text,
        "\nMethod: {} {}.",
        record.method,
        super::html::rounds(record)
    );
    for line in section_notes(record) {
        let _ = writeln!(text, "\nNote: {line}");
    }
    text
}

/// What a reader of an experiment's figures must know: why there are none, what could not be
/// measured, and what failed.
pub fn section_notes(record: &Record) -> impl Iterator<Item = String> {
    let skipped = record.skipped.iter().map(|r| format!("not measured: {r}"));
    let failed = record.failures.iter().map(|f| format!("failed: {f}"));
    skipped.chain(record.notes.iter().cloned()).chain(failed)
}

/// The table in Markdown.
pub fn rows(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&table.head);
    text += &line(&vec!["---".to_owned(); table.head.len()]);
    for row in &table.rows {
        text += &line(row);
    }
    text
}
