//! `aioshim measure`: the cost of a call on and off fibers, the gain of many fibers, and the cost
//! of a fiber itself. With `--full` it also compares each engine with the best alternatives, and
//! checks whether the automatic choice among them is ever the slower one.
//!
//! The report consists of parts. Each part is a table followed by its performance goals, which are
//! printed as `bar`; its raw samples are written as JSON. Everything that is compared runs in the
//! same minutes, in turn, round by round, and the report shows the median of the rounds' ratios. A
//! part says what it could not measure and why. Missed goals never change the exit status.

mod call_stats;
mod data_file;
mod engines;
mod environment;
mod fibers;
mod fio;
mod goals;
mod golang;
mod live;
mod locks;
mod matrix;
mod mixed;
mod noise;
mod overhead;
mod phase;
mod pingpong;
mod plot;
mod programs;
mod progress;
mod report;
mod rounds;
mod samples;
mod stdio;
mod throughput;
mod uncached;
mod whole_programs;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use environment::Environment;
use noise::Noise;
use programs::{Engine, Programs};
use report::Part;

/// What to measure, for how long and where.
#[derive(Args)]
pub struct Options {
    /// Take shorter and fewer rounds: under a minute for the first three tables, three
    /// minutes with --full
    #[arg(long)]
    quick: bool,
    /// Measure all tables, including engines, cold reads, mixed work, the matrix of calls and whole
    /// programs; takes about seventeen minutes
    #[arg(long, conflicts_with = "only")]
    full: bool,
    /// Measure only this table (may be given several times)
    #[arg(long, value_enum)]
    only: Vec<Table>,
    /// Run this many rounds, however long they take [default: as many as fit the time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Directory for the files that are read and written; put it on a real disk, because O_DIRECT
    /// is used [default: target/measure]
    #[arg(long, value_name = "DIR", overrides_with = "dir")]
    dir: Option<PathBuf>,
    /// Directory for the JSON files and the plots [default: target/measure]
    #[arg(long, value_name = "DIR", overrides_with = "json")]
    json: Option<PathBuf>,
    /// Request this engine from the shim (AIOSHIM_ENGINE)
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Directory of the benchmark programs that bench/build has built [default: bench, beside this
    /// command]
    #[arg(long, value_name = "DIR", overrides_with = "programs")]
    programs: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Nanoseconds per call: plain, preloaded and on fibers
    Overhead,
    /// Random 4 KiB reads by fibers, pthreads and fio
    Throughput,
    /// Yield, create and join, wake-ups across workers, a million waiting fibers
    Fibers,
    /// O_DIRECT reads by each engine, and by fio on the same kernel interface
    Engines,
    /// Cold reads: random ones by many readers, sequential ones by one reader
    Cold,
    /// Requests of one read and some work, by fibers, threads and thread pools
    Mixed,
    /// Every call in every state of the caches, by every engine and by pthreads
    Matrix,
    /// Calls of stdio that its buffers can serve
    Stdio,
    /// Uncontended locks, plain and preloaded
    Locks,
    /// Eight bytes back and forth over sockets: fibers, pthreads and an epoll loop
    Pingpong,
    /// Whole programs, compiled for fibers and for pthreads: an indexer, servers, a log and others
    Programs,
    /// Go programs built by `aioshim go` and by go alone; not part of --full, because it needs Go
    Go,
}

impl Table {
    /// The tables that are measured without --full. With --quick they take a minute.
    const FIRST: [Table; 3] = [Table::Overhead, Table::Throughput, Table::Fibers];
}

/// --quick promises to take a minute. Work that a part does once, outside its time budget, takes
/// the rest.
const QUICK: Duration = Duration::from_secs(48);

/// The data that every part needs.
struct Bench {
    programs: Programs,
    /// The directory of the files that are read and written.
    dir: PathBuf,
    /// A directory inside `dir` for the files of overhead.c.
    calls_dir: PathBuf,
    quick: bool,
    full: bool,
    rounds: Option<u32>,
    /// The time when the build was finished.
    started: Instant,
    /// The engine that carries out the operations of parked fibers, as the shim names it, or `None`
    /// if there is none.
    engine: Option<String>,
}

impl Bench {
    /// Returns an error if a waiting fiber would block all others, because the shim has no engine.
    fn ensure_fibers_can_wait(&self, what: &str) -> Result<()> {
        ensure!(
            self.engine.is_some(),
            "{what}: the shim has no engine, so a waiting fiber would block all others"
        );
        Ok(())
    }

    /// Returns the first of a pair with --quick, else the second.
    fn pick<T>(&self, (quick, whole): (T, T)) -> T {
        if self.quick { quick } else { whole }
    }

    /// Returns the time budget of a part. With --quick this is the first figure, limited for the
    /// first tables by the rest of the minute.
    fn budget(&self, quick_seconds: u64, seconds: u64) -> Duration {
        if !self.quick {
            return Duration::from_secs(seconds);
        }
        let quick = Duration::from_secs(quick_seconds);
        if self.full {
            quick
        } else {
            quick.min(QUICK.saturating_sub(self.started.elapsed()))
        }
    }

    /// Returns whether to run another round after `done` rounds.
    fn more_rounds(&self, done: usize, at_least: usize, time_left: bool) -> bool {
        match self.rounds {
            Some(wanted) => done < wanted as usize,
            None => time_left || done < at_least,
        }
    }
}

/// Measures, prints and writes everything that was asked for. Exits with failure if a part could
/// not be measured.
pub fn run(options: &Options) -> Result<ExitCode> {
    let default = || PathBuf::from("target/measure");
    let dir = directory(options.dir.clone().unwrap_or_else(default), "--dir")?;
    let out = directory(options.json.clone().unwrap_or_else(default), "--json")?;
    let mut wanted = options.only.clone();
    if options.full {
        let all = Table::value_variants().iter().copied();
        wanted.extend(all.filter(|table| *table != Table::Go));
    } else if wanted.is_empty() {
        wanted.extend(Table::FIRST);
    }

    let mut bench = Bench {
        programs: Programs::find(options.programs.as_deref(), options.engine)?,
        calls_dir: directory(dir.join("calls"), "--dir")?,
        dir,
        quick: options.quick,
        full: options.full,
        rounds: options.rounds,
        started: Instant::now(),
        engine: None,
    };
    let mut notes = Vec::new();
    match call_stats::engine(&bench, None) {
        Ok(Ok(engine)) => bench.engine = Some(engine),
        Ok(Err(refusal)) => notes.push(format!(
            "nothing is asynchronous here; the shim's engine: {refusal}"
        )),
        Err(error) => notes.push(format!("{error:#}")),
    }
    let environment = Environment::gather(&bench, notes);
    print!("{environment}");

    let mut whole = true;
    for table in wanted {
        let others = Noise::watch();
        let mut part: Part = match table {
            Table::Overhead => overhead::measure(&bench)?,
            Table::Throughput => throughput::measure(&bench, &out)?,
            Table::Fibers => fibers::measure(&bench)?,
            Table::Engines => engines::measure(&bench)?,
            Table::Cold => uncached::measure(&bench)?,
            Table::Mixed => mixed::measure(&bench, &out)?,
            Table::Matrix => matrix::measure(&bench)?,
            Table::Stdio => stdio::measure(&bench)?,
            Table::Locks => locks::measure(&bench)?,
            Table::Pingpong => pingpong::measure(&bench)?,
            Table::Programs => whole_programs::measure(&bench)?,
            Table::Go => golang::measure(&bench)?,
        };
        part.notes.extend(others.notes());
        whole &= part.failures.is_empty();
        print!("\n{part}");
        let path = part.write(&out, &environment, options.quick, others.processors())?;
        println!("raw samples: {}", path.display());
    }
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn directory(dir: PathBuf, option: &str) -> Result<PathBuf> {
    fs::create_dir_all(&dir)
        .with_context(|| format!("{option} {}: cannot create the directory", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("{option} {}: cannot use the directory", dir.display()))
}
