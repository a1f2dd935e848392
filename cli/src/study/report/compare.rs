//! Two studies side by side: two machines, kernels or versions.

use std::fmt::Write;

use super::html::{answer, figures, head, machine, verdict_of};
use super::markup::{escape, number};
use super::questions::question;
use super::view::{ExperimentView, Number, experiments};
use crate::study::answer::Direction;
use crate::study::file::Study;

/// A study with the name that the report gives it.
pub struct Side<'a> {
    pub study: &'a Study,
    pub name: &'a str,
}

/// The whole page.
pub fn page(a: &Side, b: &Side) -> String {
    let (left, right) = (experiments(a.study, "A"), experiments(b.study, "B"));
    let mut html = head("Two studies of asynchronous and blocking I/O");
    html += &pair(&intro("A", a, &left), &intro("B", b, &right));
    html += &ratios(&left, &right);
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

/// A table of all judged ratios that both studies have, and whether they agree.
fn ratios(left: &[ExperimentView], right: &[ExperimentView]) -> String {
    let mut rows = String::new();
    let (mut same, mut opposite, mut all) = (0, 0, 0);
    for a in left {
        let Some(b) = right.iter().find(|b| b.record.id == a.record.id) else {
            continue;
        };
        for name in a.record.answer.findings.keys() {
            let (Some(of_a), Some(of_b)) = (a.finding(name), b.finding(name)) else {
                continue;
            };
            if of_a.direction.is_none() || of_b.direction.is_none() {
                continue;
            }
            all += 1;
            let agreement = Agreement::of(&of_a, &of_b);
            same += usize::from(agreement == Agreement::Same);
            opposite += usize::from(agreement == Agreement::Opposite);
            let agreement = agreement.in_words();
            let _ = writeln!(
                rows,
                "<tr><td>{}: {}</td><td>{}</td><td>{}</td><td class=\"word\">{agreement}</td></tr>",
                escape(&a.record.id),
                escape(name),
                number(&of_a),
                number(&of_b),
            );
        }
    }
    let undecided = all - same - opposite;
    format!(
        "<h2>Ratios of asynchronous to blocking I/O</h2><p>{same} of {all} ratios have the same \
        direction in both studies, {undecided} are decided in only one, and {opposite} have \
        opposite directions.</p><details><summary>All {all} ratios</summary><div \
        class=\"scroll\"><table><thead><tr><th>ratio</th><th>A</th><th>B</th><th></th></tr></thead>\
        <tbody>\n{rows}</tbody></table></div></details>\n"
    )
}

/// Whether two ratios agree on which side is better.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agreement {
    Same,
    /// One of them makes no difference.
    Undecided,
    Opposite,
}

impl Agreement {
    fn of(a: &Number, b: &Number) -> Agreement {
        let undecided = Some(Direction::NoDifference);
        match (a.direction, b.direction) {
            (of_a, of_b) if of_a == of_b => Agreement::Same,
            (of_a, of_b) if of_a == undecided || of_b == undecided => Agreement::Undecided,
            _ => Agreement::Opposite,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Agreement::Same => "same direction",
            Agreement::Undecided => "decided in one only",
            Agreement::Opposite => "opposite",
        }
    }
}
