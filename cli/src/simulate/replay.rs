//! Replays the calls of one trace against every policy.

use std::collections::HashMap;

use serde::Serialize;

use super::costs::{Costs, Method};
use super::policies::{Contender, Memory, ThreadMemory, recorded};
use super::row::{Decided, Kind, Outcome, Row};
use super::truth::{self, Truth};

/// The result of one policy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Score {
    /// The total cost in nanoseconds.
    pub cost: f64,
    /// The part of the cost during which a blocked thread kept other fibers waiting.
    pub blocked: f64,
    /// The numbers of decisions for plain, try and submit. `hits` counts calls that would hit,
    /// `misses` those that would miss.
    pub hits: [u64; 3],
    pub misses: [u64; 3],
}

impl Score {
    fn add(&mut self, method: Method, truth: Truth, (cost, blocked): (f64, f64)) {
        self.cost += cost;
        self.blocked += blocked;
        match truth {
            Truth::Hit => self.hits[method as usize] += 1,
            Truth::Miss => self.misses[method as usize] += 1,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.cost += other.cost;
        self.blocked += other.blocked;
        for i in 0..Method::ALL.len() {
            self.hits[i] += other.hits[i];
            self.misses[i] += other.misses[i];
        }
    }
}

/// One replayed trace.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    pub name: String,
    /// The number of calls that could be made in more than one way.
    pub calls: u64,
    /// The number of calls that had no choice or that the policy does not decide.
    pub left_out: u64,
    /// The number of `calls` whose outcome was inferred from their time.
    pub inferred: u64,
    /// The number of `calls` for which the replayed policy decides as it did in the trace.
    pub as_recorded: u64,
    /// In the order of [`Contender::ALL`].
    pub scores: [Score; Contender::ALL.len()],
}

/// What is known about one descriptor at some point of the trace.
#[derive(Clone, Copy, Default)]
struct State {
    file: u32,
    /// Whether the file has refused a try to read, or to write. Every policy would have learned of
    /// it.
    refuses_tries: [bool; 2],
    memories: [Memory; Contender::ALL.len()],
}

impl Replay {
    /// Replays `rows`, which must be sorted by the start of each call.
    pub fn of(name: String, rows: &[Row], costs: &Costs) -> Self {
        let mut replay = Self::empty(name);
        let mut states: HashMap<i32, State> = HashMap::new();
        let mut threads: HashMap<i32, [ThreadMemory; Contender::ALL.len()]> = HashMap::new();
        for row in rows {
            if row.kind == Kind::Close {
                states.remove(&row.fd);
            }
            if !is_open_question(row) {
                replay.left_out += 1;
                continue;
            }
            let state = states.entry(row.fd).or_default();
            if state.file != row.file {
                *state = State {
                    file: row.file,
                    ..State::default()
                };
            }
            replay.put(row, state, threads.entry(row.thread).or_default(), costs);
        }
        replay
    }

    pub fn empty(name: String) -> Self {
        Self {
            name,
            calls: 0,
            left_out: 0,
            inferred: 0,
            as_recorded: 0,
            scores: Default::default(),
        }
    }

    fn put(
        &mut self,
        row: &Row,
        state: &mut State,
        threads: &mut [ThreadMemory; Contender::ALL.len()],
        costs: &Costs,
    ) {
        let (truth, inferred) = truth::of(row, costs.longest_copy(row));
        self.calls += 1;
        self.inferred += u64::from(inferred);
        let write = usize::from(row.kind == Kind::Write);
        let known = state.refuses_tries[write] || row.hint.contains(row.refuses_nowait());
        let refuses = known || row.outcome == Outcome::Refused;
        for (i, contender) in Contender::ALL.into_iter().enumerate() {
            let cost = |method| costs.of(method, row, truth, refuses);
            if contender == Contender::Oracle {
                let cheapest = |a: &Method, b: &Method| cost(*a).0.total_cmp(&cost(*b).0);
                let method = Method::ALL
                    .into_iter()
                    .min_by(cheapest)
                    .unwrap_or(Method::Plain);
                self.scores[i].add(method, truth, cost(method));
                continue;
            }
            let (memory, thread) = (&mut state.memories[i], &mut threads[i]);
            let method = memory.decide(thread, contender, row, known);
            if contender == Contender::Policy {
                self.as_recorded += u64::from(method == recorded(row));
            }
            if !(method == Method::Try && refuses) {
                // The shim measured what it did; the model knows the rest.
                let nanos = match (row.decision, method) {
                    (Decided::Copy, Method::Plain) => row.inline_ns,
                    _ => cost(method).0 as u64,
                };
                memory.learn(thread, contender, row, (method, truth), nanos);
            }
            self.scores[i].add(method, truth, cost(method));
        }
        state.refuses_tries[write] = refuses;
    }

    /// Adds the figures of another replay.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.left_out += other.left_out;
        self.inferred += other.inferred;
        self.as_recorded += other.as_recorded;
        for (mine, theirs) in self.scores.iter_mut().zip(&other.scores) {
            mine.merge(theirs);
        }
    }
}

/// Returns whether a call could be made in more than one way.
fn is_open_question(row: &Row) -> bool {
    matches!(row.kind, Kind::Read | Kind::Write | Kind::Sync | Kind::Open)
        && row.decision != Decided::Bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::row::parse_one;

    fn replay(rows: &[String]) -> Replay {
        let rows: Vec<Row> = rows.iter().map(|row| parse_one(row)).collect();
        Replay::of("test".to_owned(), &rows, &Costs::default())
    }

    fn score(replay: &Replay, contender: Contender) -> &Score {
        let at = Contender::ALL.iter().position(|c| *c == contender).unwrap();
        &replay.scores[at]
    }

    fn reads(outcomes: impl IntoIterator<Item = bool>) -> Vec<String> {
        outcomes
            .into_iter()
            .enumerate()
            .map(|(i, hit)| {
                let outcome = if hit { "hit" } else { "miss" };
                format!("{i},1,pread,3,7,1,4096,0,0,1,0,submit,{outcome},1,1,0")
            })
            .collect()
    }

    #[test]
    fn the_oracle_is_never_dearer_than_anybody() {
        let mixed = replay(&reads((0..1000).map(|i| i * 7919 % 13 < 6)));
        let oracle = score(&mixed, Contender::Oracle).cost;
        assert!(mixed.scores.iter().all(|score| score.cost >= oracle));
        assert_eq!(mixed.calls, 1000);
    }

    #[test]
    fn hits_cost_the_policy_what_always_trying_does_and_misses_little_above_submitting() {
        let hits = replay(&reads([true; 100]));
        assert_eq!(score(&hits, Contender::Policy).hits, [0, 100, 0]);
        let misses = replay(&reads([false; 1000]));
        let (policy, submit) = (
            score(&misses, Contender::Policy),
            score(&misses, Contender::Always(Method::Submit)),
        );
        assert!(policy.cost < submit.cost * 1.02, "{policy:?} {submit:?}");
        assert_eq!(policy.blocked, 0.0);
        assert_eq!(
            score(&misses, Contender::Always(Method::Plain)).blocked,
            1000.0 * 70_000.0
        );
    }

    #[test]
    fn a_close_forgets_and_so_does_another_file_under_the_number() {
        for between in [
            "5,1,close,3,7,1,0,-1,0,0,0,quick,-,1,0,0",
            "5,1,pread,3,8,1,1,0,0,0,0,try,hit,1,0,0",
        ] {
            let mut rows = reads([false; 5]);
            rows.push(between.to_owned());
            rows.extend(reads([true]));
            let policy = replay(&rows);
            assert!(
                score(&policy, Contender::Policy).hits[Method::Try as usize] >= 1,
                "{between}"
            );
            assert_eq!(
                score(&policy, Contender::Policy).hits[Method::Submit as usize],
                0,
                "{between}"
            );
        }
    }

    #[test]
    fn calls_without_a_choice_are_left_out() {
        let rows = [
            "1,1,read,3,0,18,1,-1,0,0,0,nonblocking,-,1,0,0",
            "1,1,lseek,3,0,1,0,-1,0,0,0,quick,-,1,0,0",
        ];
        let replay = replay(&rows.map(str::to_owned));
        assert_eq!((replay.calls, replay.left_out), (0, 2));
    }
}
