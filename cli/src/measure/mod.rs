//! `aioshim measure --goals`: the cost of a call on and off fibers, the gain of many fibers, the
//! cost of a fiber itself, and each engine beside the best alternatives. `--only` selects a part.
//!
//! The report consists of parts. Each part is a table followed by its performance goals, which are
//! printed as `bar`; its raw samples are written as JSON. Everything that is compared runs in the
//! same minutes, in turn, round by round, and the report shows the median of the rounds' ratios. A
//! part says what it could not measure and why. Missed goals never change the exit status.
//!
//! Without these options, `aioshim measure` runs the study (`crate::study`).

mod engines;
mod fibers;
mod goals;
mod golang;
mod locks;
mod matrix;
pub mod mixed;
mod overhead;
mod pingpong;
mod plot;
mod report;
mod stdio;
mod throughput;
mod uncached;
pub mod whole_programs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::bench::noise::Noise;
use crate::bench::programs::Engine;
use crate::bench::{Bench, Places, directory};
use report::Part;

/// What to measure, for how long and where. Without `--only` and `--goals` it is the study.
#[derive(Args)]
pub struct Options {
    /// Run the short study, a minute and a half: the default. With --goals or --only: take shorter
    /// and fewer rounds
    #[arg(long)]
    pub quick: bool,
    /// Run the long study, 18 minutes
    #[arg(long, conflicts_with = "quick")]
    pub full: bool,
    /// Go on with a study that was interrupted, from its result file
    #[arg(long, conflicts_with_all = ["quick", "full", "question"])]
    pub resume: bool,
    /// Study only this question, 1 to 9 (may be given several times)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub question: Vec<u8>,
    /// Measure the performance goals of this project instead of the study: all tables; takes about
    /// seventeen minutes, three with --quick
    #[arg(long, conflicts_with_all = ["full", "resume", "question"])]
    goals: bool,
    /// Measure only this table of --goals (may be given several times)
    #[arg(long, value_enum, conflicts_with_all = ["goals", "full", "resume", "question"])]
    only: Vec<Table>,
    /// With --only go: measure only the cases whose names contain this (may be given several times)
    #[arg(long, value_name = "TEXT", requires = "only")]
    case: Vec<String>,
    /// Run this many rounds, however long they take [default: as many as fit the time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Directory for the files that are read and written; put it on a real disk, because O_DIRECT
    /// is used [default: target/measure]
    #[arg(long, value_name = "DIR", overrides_with = "dir")]
    pub dir: Option<PathBuf>,
    /// Directory for the result files, the report and the plots [default: target/measure]
    #[arg(long, value_name = "DIR", overrides_with = "json")]
    pub json: Option<PathBuf>,
    /// Request this engine from the shim (AIOSHIM_ENGINE)
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// Directory of the benchmark programs that bench/build has built [default: bench, beside this
    /// command]
    #[arg(long, value_name = "DIR", overrides_with = "programs")]
    pub programs: Option<PathBuf>,
}

impl Options {
    /// Whether tables are wanted, not the study.
    pub fn names_tables(&self) -> bool {
        self.goals || !self.only.is_empty()
    }

    /// The directory for files, and the one for results, as absolute paths.
    pub fn directories(&self) -> Result<(PathBuf, PathBuf)> {
        let or_default = |dir: &Option<PathBuf>, option| {
            let default = Path::new("target/measure");
            directory(dir.as_deref().unwrap_or(default), option)
        };
        Ok((
            or_default(&self.dir, "--dir")?,
            or_default(&self.json, "--json")?,
        ))
    }

    /// The places that measuring needs, with the files in `dir`.
    pub fn places<'a>(&'a self, dir: &'a Path) -> Places<'a> {
        Places {
            dir,
            programs: self.programs.as_deref(),
            engine: self.engine,
        }
    }
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
    /// Go programs built by `aioshim go` and by go alone; not part of --goals, because it needs Go
    Go,
}

/// Measures, prints and writes the tables that were asked for. Exits with failure if a part could
/// not be measured.
pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.case.is_empty() || options.only.contains(&Table::Go),
        "--case selects cases of --only go"
    );
    let (dir, out) = options.directories()?;
    let mut wanted = options.only.clone();
    if options.goals {
        let all = Table::value_variants().iter().copied();
        wanted.extend(all.filter(|table| *table != Table::Go));
    }
    let (bench, environment) = Bench::prepare(
        &options.places(&dir),
        options.quick,
        options.goals,
        options.rounds,
    )?;
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
            Table::Go => golang::measure(&bench, &options.case)?,
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
