//! Whether two studies agree: on which side of 1 their ratios of asynchronous to blocking I/O lie.
//!
//! The interval of a ratio says which sides are possible: clearly better, clearly worse, or no
//! difference that matters. Two studies agree on a ratio if one side is possible in both.

use std::fmt::Write;

use super::terminal::{COLUMNS, wrapped};
use super::verdict;
use super::view::{ExperimentView, Number};
use crate::study::answer::{Direction, possible_sides};

/// One judged ratio in both studies.
pub struct Compared<'a> {
    pub experiment: &'a str,
    pub name: &'a str,
    pub a: Number,
    pub b: Number,
    pub agreement: Agreement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Both studies judge it alike.
    Same,
    /// Only one of them decides it, and the interval of the other allows that.
    WithinIntervals,
    /// No side is possible in both.
    Disagree,
}

impl Agreement {
    fn of(a: &Number, b: &Number) -> Agreement {
        let sides = |number: &Number| possible_sides(number.value, number.interval);
        let mut both = sides(a).into_iter().zip(sides(b));
        if a.direction == b.direction {
            Agreement::Same
        } else if both.any(|(of_a, of_b)| of_a && of_b) {
            Agreement::WithinIntervals
        } else {
            Agreement::Disagree
        }
    }

    pub fn in_words(self) -> &'static str {
        match self {
            Agreement::Same => "same direction",
            Agreement::WithinIntervals => "decided in one only, within the intervals",
            Agreement::Disagree => "the studies disagree",
        }
    }
}

/// All ratios that both studies have.
pub struct Comparison<'a> {
    pub ratios: Vec<Compared<'a>>,
    /// The number of ratios that only one study has.
    unmatched: usize,
}

impl<'a> Comparison<'a> {
    pub fn of(left: &[ExperimentView<'a>], right: &[ExperimentView]) -> Comparison<'a> {
        let mut ratios = Vec::new();
        let mut matched = 0;
        for a in left {
            let Some(b) = right.iter().find(|b| b.record.id == a.record.id) else {
                continue;
            };
            for name in a.record.answer.findings.keys() {
                let Some((of_a, of_b)) = judged(a, name).zip(judged(b, name)) else {
                    continue;
                };
                matched += 1;
                ratios.push(Compared {
                    experiment: &a.record.id,
                    name,
                    agreement: Agreement::of(&of_a, &of_b),
                    a: of_a,
                    b: of_b,
                });
            }
        }
        let all = |side: &[ExperimentView]| -> usize { side.iter().map(ratios_of).sum() };
        Comparison {
            ratios,
            unmatched: all(left) + all(right) - 2 * matched,
        }
    }

    /// The number of ratios with this agreement.
    fn count(&self, agreement: Agreement) -> usize {
        let those = self.ratios.iter().filter(|r| r.agreement == agreement);
        those.count()
    }

    /// Whether the studies agree on every ratio that both have.
    pub fn agrees(&self) -> bool {
        self.count(Agreement::Disagree) == 0
    }

    /// The ratios on which the studies disagree.
    pub fn disagreements(&self) -> impl Iterator<Item = &Compared<'a>> {
        let disagree = |ratio: &&Compared| ratio.agreement == Agreement::Disagree;
        self.ratios.iter().filter(disagree)
    }

    /// One sentence.
    pub fn sentence(&self) -> String {
        let all = self.ratios.len();
        if all == 0 {
            return "The studies have no ratio of asynchronous to blocking I/O in common."
                .to_owned();
        }
        let (same, within) = (
            self.count(Agreement::Same),
            self.count(Agreement::WithinIntervals),
        );
        let mut text = match all - same - within {
            0 => format!(
                "The two studies agree on the direction of all {all} ratios of asynchronous to \
                 blocking I/O within the intervals: {same} have the same direction in both, and \
                 {within} are decided in only one, where the interval of the other allows it"
            ),
            disagree => format!(
                "The two studies disagree on the direction of {disagree} of {all} ratios of \
                 asynchronous to blocking I/O, and agree on the others within the intervals: \
                 {same} have the same direction in both, and {within} are decided in only one, \
                 where the interval of the other allows it"
            ),
        };
        if self.unmatched > 0 {
            let _ = write!(text, "; {} ratios stand in only one study", self.unmatched);
        }
        text + "."
    }

    /// A line for each experiment, those of the verdict first: on how many of its ratios the
    /// studies agree.
    pub fn by_experiment(&self) -> Vec<String> {
        let mut ids: Vec<&str> = Vec::new();
        for ratio in &self.ratios {
            if !ids.contains(&ratio.experiment) {
                ids.push(ratio.experiment);
            }
        }
        ids.sort_by_key(|id| verdict::place(id).unwrap_or(usize::MAX));
        let line = |id: &str| {
            let of_it = || self.ratios.iter().filter(|ratio| ratio.experiment == id);
            let many = |wanted| of_it().filter(|r| r.agreement == wanted).count();
            let disagree = match many(Agreement::Disagree) {
                0 => "the studies agree".to_owned(),
                many => format!("the studies disagree on {many}"),
            };
            let place = match verdict::place(id) {
                Some(_) => " (verdict)",
                None => "",
            };
            format!(
                "{id}{place}: {disagree}; of {} ratios, {} have the same direction and {} are \
                 decided in only one",
                of_it().count(),
                many(Agreement::Same),
                many(Agreement::WithinIntervals),
            )
        };
        ids.into_iter().map(line).collect()
    }

    /// All of it for a terminal: the sentence, the experiments, and each disagreement.
    pub fn in_words(&self) -> String {
        let mut text = wrapped(&self.sentence(), "", COLUMNS);
        for line in self.by_experiment() {
            let _ = writeln!(text, "  {line}");
        }
        for ratio in self.disagreements() {
            let _ = writeln!(text, "  {}", ratio.in_words());
        }
        text
    }
}

impl Compared<'_> {
    /// The ratio in both studies, with what they say: "map: rate: ...: A 1.20x (...), async ...".
    pub fn in_words(&self) -> String {
        format!(
            "{}: {}: A {}, {}; B {}, {}",
            self.experiment,
            self.name,
            self.a.with_interval(),
            meaning(&self.a),
            self.b.with_interval(),
            meaning(&self.b),
        )
    }
}

/// The finding `name`, if it is a judged ratio that was measured.
fn judged(experiment: &ExperimentView, name: &str) -> Option<Number> {
    let number = experiment.finding(name)?;
    number.direction.is_some().then_some(number)
}

fn ratios_of(experiment: &ExperimentView) -> usize {
    let names = experiment.record.answer.findings.keys();
    names
        .filter(|name| judged(experiment, name).is_some())
        .count()
}

/// What a judged ratio means.
fn meaning(number: &Number) -> &'static str {
    match number.direction {
        Some(Direction::AsyncWins) => "asynchronous I/O wins",
        Some(Direction::AsyncLoses) => "asynchronous I/O loses",
        _ => "no difference",
    }
}

#[cfg(test)]
mod tests {
    use super::Agreement;
    use crate::study::answer::{Better, Direction};
    use crate::study::estimate::Estimate;
    use crate::study::report::view::Number;
    use crate::study::unit::Unit;

    fn number((low, value, high): (f64, f64, f64)) -> Number {
        let ratio = Estimate {
            unit: Unit::Ratio,
            value,
            interval: Some((low, high)),
        };
        Number {
            unit: Unit::Ratio,
            value,
            interval: ratio.interval,
            direction: Some(Direction::of(&ratio, Better::Higher)),
            at: String::new(),
        }
    }

    #[test]
    fn intervals_decide_whether_two_ratios_agree() {
        let cases = [
            ((1.1, 1.2, 1.3), (1.4, 1.5, 1.6), Agreement::Same),
            ((0.9, 1.0, 1.1), (0.99, 1.0, 1.0), Agreement::Same),
            (
                (1.01, 1.2, 1.3),
                (0.9, 1.0, 1.01),
                Agreement::WithinIntervals,
            ),
            ((1.1, 1.2, 1.3), (0.9, 1.0, 1.2), Agreement::WithinIntervals),
            ((1.1, 1.2, 1.3), (0.9, 1.0, 1.02), Agreement::Disagree),
            ((1.1, 1.2, 1.3), (0.7, 0.8, 0.9), Agreement::Disagree),
            ((0.7, 0.8, 0.9), (0.99, 1.0, 1.2), Agreement::Disagree),
        ];
        for (a, b, expected) in cases {
            let (a, b) = (number(a), number(b));
            assert_eq!(Agreement::of(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(Agreement::of(&b, &a), expected, "{b:?} {a:?}");
        }
    }
}
