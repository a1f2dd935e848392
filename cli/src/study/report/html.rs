//! The report as one self-contained HTML file: it needs no network and no script.

use std::fmt::Write;

use super::markup::{escape, number};
use super::plots;
use super::questions::question;
use super::sentence::{MISSING, Piece, sentence};
use super::verdict::{NO_VERDICT, verdict};
use super::view::{ExperimentView, experiments};
use crate::study::file::{Length, Record, Study};

const STYLE: &str = include_str!("style.css");

/// The whole page. `name` is the name of the result file.
pub fn page(study: &Study, name: &str) -> String {
    let experiments = experiments(study, "");
    let mut html = head("When does asynchronous I/O beat blocking I/O?");
    let _ = writeln!(html, "<p class=\"machine\">{}</p>", machine(study));
    html += &verdict_of(&experiments);
    if let Some(note) = incomplete(study) {
        let _ = writeln!(html, "<p class=\"note\">{note}</p>");
    }
    html += &overview(&experiments);
    html += &contents(&experiments);
    for number in 1..=9 {
        let those: Vec<_> = experiments
            .iter()
            .filter(|e| e.record.question == number)
            .collect();
        let _ = writeln!(
            html,
            "<h2 id=\"question-{number}\">{number}. {}</h2>",
            question(number)
        );
        if those.is_empty() {
            html += "<p class=\"note\">This study did not ask it.</p>\n";
        }
        for experiment in those {
            html += &section(experiment);
        }
    }
    let _ = writeln!(
        html,
        "<h2>How to read this</h2><p>Each number is the median of the rounds; a pointing device \
        shows its 95 % interval, which is the bootstrap of that median. Vertical strokes in plots \
        are the same intervals. Every number stands in {}: the attribute <code>data-at</code> of \
        each holds its place there as a JSON pointer. Contenders were measured in turn, round by \
        round, and a ratio is the median of the ratios within rounds.</p>",
        escape(name)
    );
    html + "</body></html>\n"
}

/// The head of a page, and its heading.
pub fn head(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta \
        name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<link rel=\"icon\" \
        href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body>\n\
        <h1>{title}</h1>\n"
    )
}

/// One line that names the machine.
pub fn machine(study: &Study) -> String {
    let length = match study.length {
        Length::Quick => "quick study",
        Length::Full => "full study",
    };
    format!("{}; {length}", escape(&study.machine.in_words()))
}

/// Why the study may say less than it could, if it was interrupted.
pub fn incomplete(study: &Study) -> Option<&'static str> {
    (!study.complete).then_some(
        "This study was interrupted: it shows what was measured until then. aioshim measure \
        --resume goes on with it.",
    )
}

/// The verdict as a list.
pub fn verdict_of(experiments: &[ExperimentView]) -> String {
    let sentences = verdict(experiments);
    if sentences.is_empty() {
        return format!("<div class=\"verdict\"><p>{NO_VERDICT}</p></div>\n");
    }
    let items: String = sentences
        .iter()
        .map(|pieces| format!("<li>{}</li>\n", pieces_of(pieces)))
        .collect();
    format!("<div class=\"verdict\"><ol>\n{items}</ol></div>\n")
}

/// The experiments whose first plots are the overview, and the number of these plots.
const OVERVIEW: [(&str, usize); 2] = [("map", 2), ("whole-programs", 1)];

/// Wins and losses at a glance. Empty if none of it was measured.
fn overview(experiments: &[ExperimentView]) -> String {
    let first_plots = |(id, many): &(&str, usize)| -> Option<String> {
        let experiment = experiments.iter().find(|e| e.record.id == *id)?;
        Some(drawn(experiment).take(*many).collect())
    };
    let drawn: String = OVERVIEW.iter().filter_map(first_plots).collect();
    if drawn.is_empty() {
        return drawn;
    }
    format!(
        "<h2 id=\"overview\">Where asynchronous I/O wins, and where it loses</h2>\n<div \
        class=\"plots\">{drawn}</div>\n"
    )
}

fn contents(experiments: &[ExperimentView]) -> String {
    let mut html = "<nav><ol>".to_owned();
    for number in 1..=9 {
        let of_it = |e: &&ExperimentView| e.record.question == number;
        let skipped = experiments
            .iter()
            .filter(of_it)
            .all(|e| e.record.skipped.is_some());
        let _ = write!(
            html,
            "<li><a href=\"#question-{number}\">{}</a>{}</li>",
            question(number),
            if skipped { " (not measured)" } else { "" }
        );
    }
    html + "</ol></nav>\n"
}

/// One experiment: its sentence, plots, method, notes and all figures.
fn section(experiment: &ExperimentView) -> String {
    let record = experiment.record;
    let mut html = format!("<section><h3>{}</h3>\n", escape(&record.title));
    if let Some(reason) = &record.skipped {
        let _ = write!(
            html,
            "<p class=\"note\">Not measured: {}.</p>",
            escape(reason)
        );
        return html + "</section>\n";
    }
    html += &answer(experiment);
    let above = OVERVIEW.iter().find(|(id, _)| *id == record.id);
    if above.is_some() {
        html += "<p>Its ratios stand in the <a href=\"#overview\">overview</a>.</p>\n";
    }
    let above = above.map_or(0, |(_, many)| *many);
    let plots: String = drawn(experiment).skip(above).collect();
    let _ = write!(html, "<div class=\"plots\">{plots}</div>");
    html += &remarks(experiment);
    html += &table(experiment);
    html + "</section>\n"
}

/// The sentence of an experiment.
pub fn answer(experiment: &ExperimentView) -> String {
    let pieces = sentence(&experiment.record.answer.sentence, experiment);
    format!("<p>{}</p>\n", pieces_of(&pieces))
}

/// The plots of an experiment.
pub fn figures(experiment: &ExperimentView) -> String {
    drawn(experiment).collect()
}

fn drawn(experiment: &ExperimentView) -> impl Iterator<Item = String> {
    let plots = experiment.record.answer.plots.iter();
    plots.map(|plot| plots::draw(plot, experiment))
}

fn remarks(experiment: &ExperimentView) -> String {
    let record = experiment.record;
    let mut html = format!("<p class=\"method\">Method: {}", escape(&record.method));
    let _ = write!(html, " {}", rounds(record));
    if let Some(busy) = record.processors_busy_with_others {
        let _ = write!(html, ", with {busy:.2} processors busy with other programs");
    }
    html += ".</p>\n";
    for note in &record.notes {
        let _ = writeln!(html, "<p class=\"note\">Note: {}</p>", escape(note));
    }
    for failure in &record.failures {
        let _ = writeln!(html, "<p class=\"failure\">Failed: {}</p>", escape(failure));
    }
    html
}

/// How often it was measured.
pub fn rounds(record: &Record) -> String {
    let word = if record.rounds == 1 {
        "round"
    } else {
        "rounds"
    };
    format!("{} {word} in {:.0} s", record.rounds, record.seconds)
}

/// All figures of an experiment, folded.
fn table(experiment: &ExperimentView) -> String {
    let mut names: Vec<&String> = Vec::new();
    for results in &experiment.record.cells.0 {
        names.extend(results.figures.keys());
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<details><summary>All figures of {} cells</summary><div class=\"scroll\"><table><thead>\
        <tr><th>cell</th>",
        experiment.record.cells.0.len()
    );
    for name in &names {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html += "</tr></thead><tbody>\n";
    for view in experiment.cells() {
        let _ = write!(
            html,
            "<tr><td>{}</td>",
            escape(&view.results.cell.to_string())
        );
        for name in &names {
            let text = view.median(name).map(|median| number(&median));
            let _ = write!(html, "<td>{}</td>", text.unwrap_or_default());
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div></details>\n"
}

fn pieces_of(pieces: &[Piece]) -> String {
    let html = |piece: &Piece| match piece {
        Piece::Text(text) => escape(text),
        Piece::Number(of) => number(of),
        Piece::Missing => MISSING.to_owned(),
    };
    pieces.iter().map(html).collect()
}
