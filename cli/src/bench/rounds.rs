//! Runs several participants in turn, round by round. A ratio compares two participants within one
//! round.
//!
//! Each round begins with a different participant, because a disk that has just rested favours the
//! one that comes first.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::Bench;
use super::phase::Phase;
use super::samples::Samples;

/// All rounds. A participant is a number from 0; each round holds what each participant did, or its
/// single figure.
pub struct Rounds<T = Phase> {
    /// A participant that failed or cannot take part is not run again, because a hang takes long.
    out: Vec<bool>,
    /// One row per round.
    seen: Vec<Vec<Option<T>>>,
}

impl<T: Clone> Rounds<T> {
    /// Creates an empty set of rounds for `many` participants.
    pub fn of(many: usize) -> Rounds<T> {
        Rounds {
            out: vec![false; many],
            seen: Vec::new(),
        }
    }

    /// Excludes the participant `who` from further rounds.
    pub fn leave_out(&mut self, who: usize) {
        self.out[who] = true;
    }

    /// Runs one round. `run` returns what a participant did, or why it failed.
    pub fn add(&mut self, failures: &mut Vec<String>, mut run: impl FnMut(usize) -> Result<T>) {
        let many = self.out.len();
        let mut round = vec![None; many];
        for turn in 0..many {
            let who = (turn + self.seen.len()) % many;
            if self.out[who] {
                continue;
            }
            match run(who) {
                Ok(done) => round[who] = Some(done),
                Err(error) => {
                    failures.push(format!("{error:#}"));
                    self.out[who] = true;
                }
            }
        }
        self.seen.push(round);
    }

    /// All that `who` did.
    pub fn all(&self, who: usize) -> Vec<&T> {
        self.seen(who).collect()
    }

    fn seen(&self, who: usize) -> impl Iterator<Item = &T> {
        self.seen
            .iter()
            .filter_map(move |round| round[who].as_ref())
    }

    /// The figures of `who` in all rounds.
    pub fn samples(&self, who: usize, figure: impl Fn(&T) -> f64) -> Samples {
        self.seen(who).map(figure).collect()
    }

    /// The median figure of `who`.
    pub fn median(&self, who: usize, figure: impl Fn(&T) -> f64) -> Option<f64> {
        self.samples(who, figure).median()
    }

    /// The ratio of `who` to `base` in each round that has both.
    pub fn ratios(&self, who: usize, base: usize, figure: impl Fn(&T) -> f64) -> Samples {
        let both = self
            .seen
            .iter()
            .filter_map(|round| round[who].as_ref().zip(round[base].as_ref()));
        both.map(|(who, base)| figure(who) / figure(base)).collect()
    }

    /// The highest median ratio to `base` among `others`, and the participant it belongs to.
    pub fn highest(
        &self,
        others: impl IntoIterator<Item = usize>,
        base: usize,
        figure: impl Fn(&T) -> f64,
    ) -> Option<(usize, f64)> {
        let ratios = others
            .into_iter()
            .filter_map(|who| Some((who, self.ratios(who, base, &figure).median()?)));
        ratios.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl Rounds {
    /// The fraction of a phase's bytes that the device delivered, if each operation has `bytes`
    /// bytes. It is 1 if all of them came from the device.
    pub fn device_part(&self, who: usize, bytes: f64) -> Option<f64> {
        let part = |phase: &Phase| {
            phase.device_bytes.unwrap_or(0) as f64 / (phase.operations as f64 * bytes)
        };
        self.median(who, part)
    }

    /// All samples, by name.
    pub fn json(&self, names: &[&str]) -> Value {
        let by_name = names.iter().enumerate().map(|(who, name)| {
            let value = json!({
                "rate": self.samples(who, Phase::rate),
                "cpu_us": self.samples(who, Phase::cpu_us),
                "phases": self.seen(who).collect::<Vec<_>>(),
            });
            ((*name).to_owned(), value)
        });
        Value::Object(by_name.collect())
    }
}

/// Repeats `round` until `budget` is used up. Starts another round only if it would end in time,
/// assuming that it takes as long as the longest so far. Returns the number of rounds.
pub fn in_time(bench: &Bench, budget: Duration, mut round: impl FnMut()) -> usize {
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    let mut done = 0;
    while bench.more_rounds(done, 1, start.elapsed() + longest < budget) {
        let began = Instant::now();
        round();
        longest = longest.max(began.elapsed());
        done += 1;
    }
    done
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::{Phase, Rounds};

    fn phase(operations: u64) -> Phase {
        Phase {
            operations,
            ns: 1_000_000_000,
            user_us: 1,
            system_us: 1,
            voluntary: 0,
            involuntary: 0,
            device_bytes: None,
            threads: 1,
            peak_rss_kib: 0,
            exhausted: false,
        }
    }

    #[test]
    fn turns_rotate_and_a_failure_is_not_asked_again() {
        let mut rounds = Rounds::of(3);
        let (mut failures, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            rounds.add(&mut failures, |who| {
                asked.push(who);
                match who {
                    1 => bail!("one fails"),
                    _ => Ok(phase(100 + 10 * who as u64)),
                }
            });
        }
        assert_eq!(asked, [0, 1, 2, 2, 0]);
        assert_eq!(failures, ["one fails"]);
        assert_eq!(rounds.ratios(2, 0, Phase::rate).median(), Some(1.2));
        assert_eq!(rounds.highest([1, 2], 0, Phase::rate), Some((2, 1.2)));
        assert_eq!(rounds.median(1, Phase::rate), None);
    }
}
