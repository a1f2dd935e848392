//! `aioshim measure`: what a call costs on and off fibers, what many of them gain, and what a fiber
//! itself costs; with `--full` also what each engine is worth beside the best others, and whether
//! the choice among them ever loses.
//!
//! Parts, each a table with its bars beneath and its raw samples as JSON beside it. All that is
//! compared runs in the same minutes, in turn, round by round; what is reported is the median of
//! the rounds' ratios. A part says what it could not measure and why; bars judge, they never change
//! the exit status.

mod bars;
mod cold;
mod data_file;
mod engines;
mod environment;
mod fibers;
mod fio;
mod labels;
mod live;
mod locks;
mod matrix;
mod mixed;
mod others;
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

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use environment::Environment;
use others::Others;
use programs::Programs;
use report::Part;

/// What to measure, how long and where.
#[derive(Args)]
pub struct Options {
    /// Shorter rounds and fewer of them: under a minute for the first three tables, two with --full
    #[arg(long)]
    quick: bool,
    /// All tables: those of the engines, cold reads, mixed work and the matrix of calls too, about
    /// thirteen minutes
    #[arg(long, conflicts_with = "only")]
    full: bool,
    /// Only these tables (may be given several times)
    #[arg(long, value_enum)]
    only: Vec<Table>,
    /// That many rounds, however long they take; without, as many as fit the time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Where the files that are read and written lie: a real disk, for O_DIRECT [default:
    /// target/measure]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the JSON and the plot go [default: target/measure]
    #[arg(long, value_name = "DIR")]
    json: Option<PathBuf>,
    /// Ask the shim for this engine (AIOSHIM_ENGINE)
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Nanoseconds a call, plain, preloaded and on fibers
    Overhead,
    /// Random 4 KiB reads by fibers, pthreads and fio
    Throughput,
    /// Yield, create and join, wakes across workers, a million fibers that wait
    Fibers,
    /// O_DIRECT reads by each engine and by fio on the same interface
    Engines,
    /// Cold reads, random by many and sequential by one
    Cold,
    /// Requests of a read and some work, by fibers, threads and pools
    Mixed,
    /// Every call in every state of the caches, by every engine and by pthreads
    Matrix,
    /// Calls of stdio that its buffers suffice for
    Stdio,
    /// Locks that nobody contends for, plain and preloaded
    Locks,
    /// Eight bytes to and fro over sockets: fibers, pthreads and an epoll loop
    Pingpong,
}

impl Table {
    /// Those without --full, which --quick does in a minute.
    const FIRST: [Table; 3] = [Table::Overhead, Table::Throughput, Table::Fibers];
}

/// --quick promises a minute; what a part does once whatever its time needs the rest.
const QUICK: Duration = Duration::from_secs(48);

/// What every part needs to know.
struct Bench {
    programs: Programs,
    /// The directory of the files that are read and written.
    dir: PathBuf,
    /// Beneath it, those of overhead.c.
    calls_dir: PathBuf,
    quick: bool,
    full: bool,
    rounds: Option<u32>,
    /// When all was built.
    started: Instant,
    /// What carries out the operations of parked fibers, in the shim's words; none when nothing
    /// does.
    engine: Option<String>,
}

impl Bench {
    /// Says why a fiber cannot wait here without keeping all others waiting.
    fn ensure_fibers_can_wait(&self, what: &str) -> Result<()> {
        ensure!(
            self.engine.is_some(),
            "{what}: the shim has no engine here, so a fiber that waits would stop them all"
        );
        Ok(())
    }

    /// The first of a pair with --quick, else the second.
    fn pick<T>(&self, (quick, whole): (T, T)) -> T {
        if self.quick { quick } else { whole }
    }

    /// How long a part may take: with --quick the first figure, and the first tables what is left
    /// of the minute.
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

    /// Whether to go on after `done` rounds.
    fn more_rounds(&self, done: usize, at_least: usize, time_left: bool) -> bool {
        match self.rounds {
            Some(wanted) => done < wanted as usize,
            None => time_left || done < at_least,
        }
    }
}

/// Measures, prints and writes all that was asked for. Fails when something could not be measured
/// at all.
pub fn run(options: &Options) -> Result<ExitCode> {
    let target = testprogs::target_dir().join("measure");
    let dir = directory(
        options.dir.clone().unwrap_or_else(|| target.clone()),
        "--dir",
    )?;
    let out = directory(options.json.clone().unwrap_or(target), "--json")?;
    let mut wanted = options.only.clone();
    if options.full {
        wanted.extend(Table::value_variants());
    } else if wanted.is_empty() {
        wanted.extend(Table::FIRST);
    }

    progress::say("building libfiber.so, libaioshim.so and the benchmark programs");
    let mut bench = Bench {
        programs: Programs::build(options.engine.clone()),
        calls_dir: directory(dir.join("calls"), "--dir")?,
        dir,
        quick: options.quick,
        full: options.full,
        rounds: options.rounds,
        started: Instant::now(),
        engine: None,
    };
    let mut notes = Vec::new();
    match labels::engine(&bench, None) {
        Ok(Ok(engine)) => bench.engine = Some(engine),
        Ok(Err(refusal)) => notes.push(format!(
            "nothing is asynchronous here, the shim's engine: {refusal}"
        )),
        Err(error) => notes.push(format!("{error:#}")),
    }
    let environment = Environment::gather(&bench, notes);
    print!("{environment}");

    let mut whole = true;
    for table in wanted {
        let others = Others::watch();
        let mut part: Part = match table {
            Table::Overhead => overhead::measure(&bench)?,
            Table::Throughput => throughput::measure(&bench, &out)?,
            Table::Fibers => fibers::measure(&bench)?,
            Table::Engines => engines::measure(&bench)?,
            Table::Cold => cold::measure(&bench)?,
            Table::Mixed => mixed::measure(&bench, &out)?,
            Table::Matrix => matrix::measure(&bench)?,
            Table::Stdio => stdio::measure(&bench)?,
            Table::Locks => locks::measure(&bench)?,
            Table::Pingpong => pingpong::measure(&bench)?,
        };
        part.notes.extend(others.told());
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
        .with_context(|| format!("{option} {}: cannot be made", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("{option} {}: cannot be used", dir.display()))
}
