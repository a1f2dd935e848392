//! Two studies side by side: two machines, kernels or versions.

use std::fmt::Write;

use super::agreement::{Compared, Comparison};
use super::html::{answer, figures, head, machine, verdict_of};
use super::markup::{escape, number};
use super::questions::question;
use super::view::{ExperimentView, experiments};
use crate::study::file::Study;

/// A study with the name that the report gives it.
pub struct Side<'a> {
    pub study: &'a Study,
    pub name: &'a str,
}

/// Whether both studies agree, in words and as a flag.
pub fn agreement_in_words(a: &Study, b: &Study) -> (String, bool) {
    let (left, right) = (experiments(a, "A"), experiments(b, "B"));
    let comparison = Comparison::of(&left, &right);
    (comparison.in_words(), comparison.agrees())
}

/// The whole page.
pub fn page(a: &Side, b: &Side) -> String {
    let (left, right) = (experiments(a.study, "A"), experiments(b.study, "B"));
    let mut html = head("Two studies of asynchronous and blocking I/O");
    html += &pair(&intro("A", a, &left), &intro("B", b, &right));
    html += &agreement(&Comparison::of(&left, &right));
    for number in 1..=9 {
        let of_it = |e: &&ExperimentView| e.record.question == number;
        let mut ids: Vec<&str> = Vec::new();
        for experiment in left.iter().chain(&right).filter(of_it) {
            if !ids.contains(&experiment.record.id.as_str()) {
                ids.push(&experiment.record.id);
            }
        }
        if ids.is_empty() {
            continue;
        }
        let _ = writeln!(html, "<h2>{number}. {}</h2>", question(number));
        for id in ids {
            let find = |side: &[ExperimentView]| section(side.iter().find(|e| e.record.id == id));
            let title = left.iter().chain(&right).find(|e| e.record.id == id);
            if let Some(experiment) = title {
                let _ = writeln!(html, "<h3>{}</h3>", escape(&experiment.record.title));
            }
            html += &pair(&find(&left), &find(&right));
        }
    }
    html + "</body></html>\n"
}

fn pair(left: &str, right: &str) -> String {
    format!("<div class=\"pair\"><div>{left}</div>\n<div>{right}</div></div>\n")
}

fn intro(letter: &str, side: &Side, experiments: &[ExperimentView]) -> String {
    format!(
        "<p class=\"machine\"><strong>{letter}</strong>: {}<br>{}</p>{}",
        escape(side.name),
        machine(side.study),
        verdict_of(experiments)
    )
}

fn section(experiment: Option<&ExperimentView>) -> String {
    match experiment {
        None => "<p class=\"note\">This study did not ask it.</p>".to_owned(),
        Some(experiment) => match &experiment.record.skipped {
            Some(reason) => format!("<p class=\"note\">Not measured: {}.</p>", escape(reason)),
            None => answer(experiment) + &figures(experiment),
        },
    }
}

/// Whether the studies agree, and a table of all judged ratios that both have.
fn agreement(comparison: &Comparison) -> String {
    let mut html = format!(
        "<h2>Do they agree?</h2>\n<p class=\"{}\">{}</p>\n<ul>\n",
        if comparison.agrees() { "" } else { "failure" },
        escape(&comparison.sentence())
    );
    for line in comparison.by_experiment() {
        let _ = writeln!(html, "<li>{}</li>", escape(&line));
    }
    html += "</ul>\n";
    html += &table(
        "Ratios on which they disagree",
        true,
        comparison.disagreements(),
    );
    html + &table("All ratios", false, comparison.ratios.iter())
}

/// A folded table of ratios. Empty without ratios.
fn table<'a>(title: &str, open: bool, ratios: impl Iterator<Item = &'a Compared<'a>>) -> String {
    let mut rows = String::new();
    let mut many = 0;
    for ratio in ratios {
        many += 1;
        let _ = writeln!(
            rows,
            "<tr><td>{}: {}</td><td>{}</td><td>{}</td><td class=\"word\">{}</td></tr>",
            escape(ratio.experiment),
            escape(ratio.name),
            number(&ratio.a),
            number(&ratio.b),
            ratio.agreement.in_words()
        );
    }
    if many == 0 {
        return String::new();
    }
    let open = if open { " open" } else { "" };
    format!(
        "<details{open}><summary>{title}: {many}</summary><div class=\"scroll\"><table><thead>\
        <tr><th>ratio</th><th>A</th><th>B</th><th></th></tr></thead><tbody>\n{rows}</tbody>\
        </table></div></details>\n"
    )
}
