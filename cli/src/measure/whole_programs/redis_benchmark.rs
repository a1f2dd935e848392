//! redis-benchmark, a real client of the key-value server.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::loadgen::{Answers, STORE_CONNECTIONS, VALUE_BYTES};
use crate::bench::live::Live;
use crate::bench::programs::scrub;

/// The kinds of requests. redis-benchmark measures them in this order.
const KINDS: [&str; 2] = ["SET", "GET"];

/// The keys that the requests choose from.
const KEYS: u32 = 1000;

/// The name and version of the installed one.
pub fn version() -> Option<String> {
    let mut command = Command::new("redis-benchmark");
    scrub(&mut command);
    let output = command
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.trim();
    said.starts_with("redis-benchmark").then(|| said.to_owned())
}

/// Sends `requests` requests of each kind, each of which must be answered without an error within
/// `limit`.
pub fn run(port: u16, requests: u32, pipeline: u32, limit: Duration) -> Result<Answers> {
    let mut command = Command::new("redis-benchmark");
    scrub(&mut command);
    command.args(["-t", &KINDS.join(",").to_lowercase(), "--csv"]);
    for (option, value) in [
        ("-p", u32::from(port)),
        ("-c", STORE_CONNECTIONS),
        ("-n", requests),
        ("-P", pipeline),
        ("-d", VALUE_BYTES),
        ("-r", KEYS),
    ] {
        command.arg(option).arg(value.to_string());
    }
    let mut live = Live::start(command, "redis-benchmark")?;
    let head = live.line_within(limit)?;
    let mut answers = Answers {
        requests: 0,
        failures: 0, // it ends with an error at the first one
        ns: 0,
        p50_us: 0.0,
        p99_us: 0.0,
        p999_us: 0.0,
    };
    for kind in KINDS {
        let line = live.line_within(limit)?;
        let figure = |name| {
            figure(&head, &line, kind, name)
                .with_context(|| format!("redis-benchmark: no {name} of {kind} in {line:?}"))
        };
        answers.requests += u64::from(requests);
        answers.ns += (f64::from(requests) / figure("rps")? * 1e9) as u64;
        answers.p50_us = answers.p50_us.max(figure("p50_latency_ms")? * 1000.0);
        answers.p99_us = answers.p99_us.max(figure("p99_latency_ms")? * 1000.0);
        // It does not print the 99.9th percentile; the slowest answer is an upper bound.
        answers.p999_us = answers.p999_us.max(figure("max_latency_ms")? * 1000.0);
    }
    live.end()?;
    Ok(answers)
}

/// The number in the column `name` of a line of CSV that begins with `kind`. All fields are quoted,
/// and none contains a comma.
fn figure(head: &str, line: &str, kind: &str, name: &str) -> Option<f64> {
    let mut fields = line.split(',').map(unquoted);
    let mut titles = head.split(',').map(unquoted);
    // The first column is the kind.
    let column = titles.position(|title| title == name)?.checked_sub(1)?;
    let value: f64 = (fields.next()? == kind)
        .then(|| fields.nth(column))??
        .parse()
        .ok()?;
    (value > 0.0).then_some(value)
}

fn unquoted(field: &str) -> &str {
    field.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn a_figure_is_found_by_its_title() {
        let head = r#""test","rps","avg_latency_ms","p50_latency_ms""#;
        let line = r#""GET","66445.18","0.505","0.487""#;
        assert_eq!(figure(head, line, "GET", "rps"), Some(66445.18));
        assert_eq!(figure(head, line, "GET", "p50_latency_ms"), Some(0.487));
        assert_eq!(figure(head, line, "SET", "rps"), None);
        assert_eq!(figure(head, line, "GET", "p99_latency_ms"), None);
        assert_eq!(figure(head, r#""GET","0.00","0","0""#, "GET", "rps"), None);
        assert_eq!(figure(head, r#""GET""#, "GET", "rps"), None);
    }
}
