//! The system calls that a Go program makes per read, counted by strace. It slows the program down,
//! so these counts show which calls are made rather than how often.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The calls that answer how threads wait and are woken.
const CALLS: [&str; 7] = [
    "pread64",
    "preadv2",
    "io_uring_enter",
    "futex",
    "nanosleep",
    "epoll_pwait",
    "clone",
];

/// Counts the calls of `program`, whose output is one phase. Returns a note and the counts.
pub fn count(program: &Path, name: &str, args: &[&str], file: &Path) -> Result<(String, Value)> {
    let log = program.with_extension("strace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-U", "calls,name", "-o"])
        .arg(&log)
        .arg(program);
    strace.arg(args[0]).arg(file).args(&args[1..]);
    let output = strace
        .env("GOMAXPROCS", "1")
        .stdin(Stdio::null())
        .output()
        .context("strace is not installed")?;
    ensure!(output.status.success(), "{name}: strace: {}", output.status);
    let phase: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{name}: unexpected output under strace"))?;
    let reads = phase["operations"].as_u64().unwrap_or(0).max(1);
    let counts = parse(&std::fs::read_to_string(&log)?);
    let per_read: Vec<_> = CALLS
        .iter()
        .map(|call| {
            let count = counts.get(*call).copied().unwrap_or(0);
            (*call, count as f64 / reads as f64)
        })
        .collect();
    let words: Vec<_> = per_read
        .iter()
        .map(|(call, count)| format!("{call} {count:.3}"))
        .collect();
    let note = format!("{name}: calls per read under strace: {}", words.join(", "));
    let value = json!({ "name": name, "reads": reads, "calls": counts });
    Ok((note, value))
}

/// Reads the table of strace: a count and a name per line, below the line of dashes.
fn parse(table: &str) -> BTreeMap<String, u64> {
    table
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter_map(|(count, name)| Some((name.trim().to_owned(), count.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "    calls syscall\n--------- ------------\n      198 futex\n        7 clone\n\
                     --------- ------------\n      205 total\n";
        let counts = parse(table);
        assert_eq!(counts.get("futex"), Some(&198));
        assert_eq!(counts.get("clone"), Some(&7));
        assert_eq!(counts.get("pread64"), None);
    }
}
