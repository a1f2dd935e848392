//! Runs one program as one participant, and checks that it did the work and ran in the right mode.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::case::{Client, Kind, Participant, Work};
use super::loadgen::{self, Answers, STORE_CONNECTIONS, VALUE_BYTES};
use super::nginx::Nginx;
use super::processors::restrict;
use super::redis_benchmark;
use super::tree::{noise, tree};
use crate::bench::Bench;
use crate::bench::data_file::ensure_space;
use crate::bench::live::{Hello, Live};
use crate::bench::programs::Load;

/// The fibers of a crew, and the files that a fiber a file opens at a time.
const FIBERS: u32 = 64;
/// The processes that the build-like storm runs at a time.
const AT_A_TIME: u32 = 8;

/// Room for the copies of a dozen rounds.
const COPIES_MIB: u64 = 1024;

/// A slow disk may need this long for a run.
const LIMIT: Duration = Duration::from_secs(150);

/// What one run cost.
#[derive(Clone, Debug)]
pub struct Run {
    pub operations: u64,
    /// The same number for every participant that did the work correctly.
    pub sum: u64,
    pub ns: u64,
    pub cpu_us_each: f64,
    /// The latencies of a server's answers, otherwise 0.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// Requests without a correct answer.
    pub failed: u64,
}

impl Run {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / (self.ns as f64 / 1e9)
    }

    pub fn ms(&self) -> f64 {
        self.ns as f64 / 1e6
    }

    pub fn cpu_us_each(&self) -> f64 {
        self.cpu_us_each
    }

    pub fn p50_us(&self) -> f64 {
        self.p50_us
    }

    pub fn p99_us(&self) -> f64 {
        self.p99_us
    }

    pub fn failed(&self) -> f64 {
        self.failed as f64
    }
}

/// The line that say_cost in tasks.h prints.
#[derive(Debug, Deserialize)]
struct Cost {
    operations: u64,
    sum: u64,
    ns: u64,
    cpu_us: u64,
}

/// The files that the programs work on.
pub struct Place {
    index: PathBuf,
    indexed: u32,
    copied: PathBuf,
    copied_files: u32,
    /// Every copy is kept until the end. For half a minute after many files were removed, ext4
    /// searches long for an inode, which would slow the participants that follow.
    copies: PathBuf,
    copies_made: Cell<u32>,
    www: PathBuf,
    /// Where programs write, and where nginx keeps its files.
    scratch: PathBuf,
}

impl Place {
    /// Makes the files, unless an earlier run has made them.
    pub fn prepare(bench: &Bench) -> Result<Place> {
        let indexed = bench.pick((3000, 23_000));
        let copied_files = 1000;
        let scratch = bench.dir.join("programs");
        let www = scratch.join("www");
        fs::create_dir_all(&www).with_context(|| format!("cannot make {}", www.display()))?;
        let copies = scratch.join("copies");
        if copies.exists() {
            // A run that was killed has left it behind.
            fs::remove_dir_all(&copies)
                .with_context(|| format!("cannot remove {}", copies.display()))?;
        }
        fs::create_dir(&copies).with_context(|| format!("cannot make {}", copies.display()))?;
        ensure_space(&copies, COPIES_MIB)?;
        for bytes in [4 << 10, 1 << 20] {
            let path = www.join(page(bytes));
            fs::write(&path, noise(bytes as usize))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Place {
            index: tree(&bench.dir, indexed)?,
            indexed,
            copied: tree(&bench.dir, copied_files)?,
            copied_files,
            copies,
            copies_made: Cell::new(0),
            www,
            scratch,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays is removed before the next measurement.
        let _ = fs::remove_dir_all(&self.copies);
    }
}

/// The name of the file that has `bytes` bytes.
fn page(bytes: u64) -> String {
    format!("page.{bytes}")
}

/// Runs the program once.
pub fn run(bench: &Bench, place: &Place, work: Work, by: &Participant) -> Result<Run> {
    let style = match by.kind {
        Kind::Fibers { each: true, .. } => "each",
        _ => "pool",
    };
    let jobs = |fibers: u32| match by.kind {
        Kind::Pthreads { jobs } => jobs.to_string(),
        _ => fibers.to_string(),
    };
    let workers = match by.kind {
        Kind::Fibers { workers, .. } => workers.to_string(),
        _ => "1".to_owned(),
    };
    let operations;
    let (mut command, name) = match work {
        Work::Http { .. } | Work::KeyValue { .. } => {
            return serve(bench, place, work, by, &workers);
        }
        Work::Index { cold } => {
            operations = u64::from(place.indexed);
            let mut command = program(bench, "indexer", by)?;
            let temperature = if cold { "cold" } else { "warm" };
            command.args([style, &jobs(FIBERS), &workers, temperature]);
            command.arg(&place.index);
            (command, "indexer")
        }
        Work::Copy => {
            operations = u64::from(place.copied_files);
            let number = place.copies_made.replace(place.copies_made.get() + 1);
            let copy = place.copies.join(number.to_string());
            let mut command = program(bench, "copytree", by)?;
            command.args([style, &jobs(FIBERS), &workers]);
            command.arg(&place.copied).arg(copy);
            (command, "copytree")
        }
        Work::Log { records } => {
            operations = u64::from(FIBERS * records);
            let mut command = program(bench, "logwriter", by)?;
            command.args([&jobs(FIBERS), &workers, &records.to_string()]);
            command.arg(place.scratch.join("log"));
            (command, "logwriter")
        }
        Work::Spawn { runs } => {
            operations = u64::from(runs);
            let mut command = program(bench, "spawner", by)?;
            command.args([&jobs(AT_A_TIME), &workers, &runs.to_string()]);
            (command, "spawner")
        }
        Work::Split { turns } => {
            operations = u64::from(FIBERS);
            let mut command = program(bench, "split", by)?;
            command.args([&jobs(FIBERS), &workers, &turns.to_string()]);
            (command, "split")
        }
    };
    restrict(&mut command, by.one_core)?;
    let mut live = Live::start(command, name)?;
    let line = live.line_within(LIMIT)?;
    live.end()?;
    check_mode(&line, by)?;
    let cost = cost(&line)?;
    ensure!(
        cost.operations == operations,
        "did {} of {operations} operations",
        cost.operations
    );
    Ok(Run {
        operations,
        sum: cost.sum,
        ns: cost.ns,
        cpu_us_each: cost.cpu_us as f64 / operations as f64,
        p50_us: 0.0,
        p99_us: 0.0,
        p999_us: 0.0,
        failed: 0,
    })
}

/// Puts a server under load.
fn serve(bench: &Bench, place: &Place, work: Work, by: &Participant, workers: &str) -> Result<Run> {
    if by.kind == Kind::Nginx {
        let nginx = Nginx::start(&place.scratch, &place.www)?;
        let before = nginx.cpu_us()?;
        let answers = load(bench, place, work, nginx.port)?;
        let cpu_us = nginx.cpu_us()? - before;
        return answered(&answers, answers.requests, cpu_us);
    }
    let mut command = match work {
        Work::KeyValue { client, .. } => {
            let mut command = program(bench, "kv", by)?;
            command.args([
                workers,
                match client {
                    Client::Loadgen => "memcached",
                    Client::RedisBenchmark { .. } => "redis",
                },
            ]);
            command
        }
        _ => {
            let mut command = program(bench, "httpd", by)?;
            command.arg(workers).arg(&place.www);
            command
        }
    };
    restrict(&mut command, by.one_core)?;
    let mut live = Live::start(command, "server")?;
    let line = live.line()?;
    check_mode(&line, by)?;
    let answers = load(bench, place, work, port(&line)?)?;
    live.close_stdin();
    let line = live.line()?;
    live.end()?;
    let cost = cost(&line)?;
    answered(&answers, cost.operations, cost.cpu_us as f64)
}

/// Starts a client and waits for it.
fn load(bench: &Bench, place: &Place, work: Work, port: u16) -> Result<Answers> {
    let (connections, requests, keep_alive, what): (_, _, _, Vec<OsString>) = match work {
        Work::Http {
            bytes,
            connections,
            keep_alive,
            requests,
        } => {
            let file = place.www.join(page(bytes));
            let what = vec!["http".into(), page(bytes).into(), file.into_os_string()];
            (connections, requests, keep_alive, what)
        }
        Work::KeyValue {
            client: Client::Loadgen,
            requests,
        } => {
            let what = vec!["kv".into(), VALUE_BYTES.to_string().into()];
            (STORE_CONNECTIONS, requests, true, what)
        }
        Work::KeyValue {
            client: Client::RedisBenchmark { pipeline },
            requests,
        } => return redis_benchmark::run(port, requests, pipeline, LIMIT),
        _ => bail!("this program is not a server"),
    };
    loadgen::run(bench, port, connections, requests, keep_alive, &what, LIMIT)
}

/// `served` are the requests that cost the server `cpu_us`; some of them may precede the load.
fn answered(answers: &Answers, served: u64, cpu_us: f64) -> Result<Run> {
    let operations = answers.requests - answers.failures;
    ensure!(
        operations > 0,
        "none of {} requests got an answer",
        answers.requests
    );
    Ok(Run {
        operations,
        sum: 0,
        ns: answers.ns,
        cpu_us_each: cpu_us / served.max(1) as f64,
        p50_us: answers.p50_us,
        p99_us: answers.p99_us,
        p999_us: answers.p999_us,
        failed: answers.failures,
    })
}

fn program(bench: &Bench, name: &str, by: &Participant) -> Result<Command> {
    let (pthreads, load) = match by.kind {
        Kind::Pthreads { .. } => (true, Load::Plain),
        Kind::Fibers { .. } => (false, Load::Shim),
        Kind::Nginx => bail!("{name}: nginx runs only the file server"),
    };
    let path = bench.programs.task_program(name, pthreads);
    Ok(bench.programs.command(&path, load))
}

fn check_mode(line: &str, by: &Participant) -> Result<()> {
    let hello: Hello =
        serde_json::from_str(line).with_context(|| format!("unexpected output {line:?}"))?;
    let fibers = matches!(by.kind, Kind::Fibers { .. });
    let meant = Hello {
        preloaded: fibers,
        fiber: fibers,
    };
    ensure!(hello == meant, "ran in the wrong mode: {line}");
    Ok(())
}

fn cost(line: &str) -> Result<Cost> {
    let cost: Cost =
        serde_json::from_str(line).with_context(|| format!("unexpected output {line:?}"))?;
    ensure!(cost.ns > 0, "took no time: {line:?}");
    Ok(cost)
}

fn port(line: &str) -> Result<u16> {
    #[derive(Deserialize)]
    struct Listening {
        port: u16,
    }
    let listening: Listening =
        serde_json::from_str(line).with_context(|| format!("unexpected output {line:?}"))?;
    Ok(listening.port)
}

#[cfg(test)]
mod tests {
    use super::{Answers, answered, check_mode, cost, port};
    use crate::measure::whole_programs::case::{Kind, Participant};

    const LINE: &str = "{\"operations\": 4, \"sum\": 18446744073709551615, \"ns\": 2000, \
        \"cpu_us\": 8, \"preloaded\": true, \"fiber\": true}";

    #[test]
    fn a_cost_is_understood_or_shown() {
        let cost_of = cost(LINE).expect("a cost");
        assert_eq!((cost_of.operations, cost_of.sum), (4, u64::MAX));
        for line in ["", "{}", "killed"] {
            let error = cost(line).expect_err(line).to_string();
            assert!(error.contains(&format!("{line:?}")), "{error}");
        }
        assert_eq!(port("{\"port\": 4096, \"fiber\": true}").ok(), Some(4096));
        assert!(port(LINE).is_err());
    }

    #[test]
    fn the_mode_must_be_the_participants() {
        let by = |kind| Participant {
            name: "it",
            kind,
            one_core: false,
        };
        let fibers = Kind::Fibers {
            workers: 1,
            each: false,
        };
        assert!(check_mode(LINE, &by(fibers)).is_ok());
        assert!(check_mode(LINE, &by(Kind::Pthreads { jobs: 8 })).is_err());
    }

    #[test]
    fn failed_requests_are_not_operations() {
        let mut answers = Answers {
            requests: 10,
            failures: 4,
            ns: 1000,
            p50_us: 1.0,
            p99_us: 2.0,
            p999_us: 3.0,
        };
        let run = answered(&answers, 20, 40.0).expect("some got an answer");
        assert_eq!((run.operations, run.failed), (6, 4));
        assert!((run.cpu_us_each - 2.0).abs() < 1e-9);
        answers.failures = 10;
        let error = answered(&answers, 0, 1.0).expect_err("none got an answer");
        assert_eq!(error.to_string(), "none of 10 requests got an answer");
    }
}
