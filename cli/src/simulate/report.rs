//! The results of the replays, as tables for a reader and as JSON.

use std::fmt;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use super::costs::Costs;
use super::policies::Contender;
use super::replay::{Replay, Score};

pub struct Report<'a> {
    replays: &'a [Replay],
    /// The sum of all replays.
    sum: Replay,
    costs: &'a Costs,
}

impl<'a> Report<'a> {
    pub fn new(replays: &'a [Replay], costs: &'a Costs) -> Self {
        let mut sum = Replay::empty("all".to_owned());
        for replay in replays {
            sum.merge(replay);
        }
        Self {
            replays,
            sum,
            costs,
        }
    }

    /// One JSON object with the costs, the sum of all traces, and each trace.
    pub fn json(&self) -> Value {
        let each: Vec<Value> = self.replays.iter().map(one).collect();
        json!({ "costs": self.costs, "all": one(&self.sum), "traces": each })
    }
}

/// Nanoseconds per call above the cost of the oracle.
fn regret(replay: &Replay, score: &Score) -> f64 {
    let oracle = &replay.scores[Contender::ALL.len() - 1];
    (score.cost - oracle.cost) / replay.calls.max(1) as f64
}

fn one(replay: &Replay) -> Value {
    let contenders: Map<String, Value> = Contender::ALL
        .iter()
        .zip(&replay.scores)
        .map(|(contender, score)| {
            let by_way = |counts: &[u64; 3]| {
                json!({ "plain": counts[0], "try": counts[1],
                "submit": counts[2] })
            };
            let value = json!({
                "fixed": contender.is_fixed(),
                "ns_a_call": score.cost / replay.calls.max(1) as f64,
                "regret_ns_a_call": regret(replay, score),
                "blocked_ns": score.blocked,
                "hits": by_way(&score.hits),
                "misses": by_way(&score.misses),
            });
            (contender.name().to_owned(), value)
        })
        .collect();
    json!({
        "name": replay.name,
        "calls": replay.calls,
        "left_out": replay.left_out,
        "inferred": replay.inferred,
        "as_recorded": replay.as_recorded,
        "contenders": contenders,
    })
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = &self.sum;
        writeln!(
            f,
            "{} calls; {} more are left out because they had no choice. For {} calls the time was \
            used to infer whether \
             they had to wait. The replayed policy decides {} calls as it did in the trace.",
            sum.calls, sum.left_out, sum.inferred, sum.as_recorded
        )?;
        let mut whole = table(&[
            "",
            "ns per call",
            "regret",
            "blocked ms",
            "hit: plain",
            "try",
            "submit",
            "miss: plain",
            "try",
            "submit",
        ]);
        for (contender, score) in Contender::ALL.iter().zip(&sum.scores) {
            let mut row = vec![
                contender.name().to_owned(),
                format!("{:.0}", score.cost / sum.calls.max(1) as f64),
                format!("{:.0}", regret(sum, score)),
                format!("{:.1}", score.blocked / 1e6),
            ];
            row.extend(score.hits.iter().chain(&score.misses).map(u64::to_string));
            whole.add_row(row);
        }
        writeln!(f, "{whole}")?;
        if self.replays.len() < 2 {
            return Ok(());
        }
        writeln!(f, "Regret against the oracle, in ns per call")?;
        let rivals = &Contender::ALL[..Contender::ALL.len() - 1];
        let header: Vec<&str> = ["trace", "calls", "oracle"]
            .into_iter()
            .chain(rivals.iter().map(|contender| contender.name()))
            .collect();
        let mut each = table(&header);
        for replay in self.replays {
            let oracle = &replay.scores[rivals.len()];
            let mut row = vec![
                replay.name.clone(),
                replay.calls.to_string(),
                format!("{:.0}", oracle.cost / replay.calls.max(1) as f64),
            ];
            row.extend(
                replay.scores[..rivals.len()]
                    .iter()
                    .map(|s| format!("{:.0}", regret(replay, s))),
            );
            each.add_row(row);
        }
        writeln!(f, "{each}")
    }
}
