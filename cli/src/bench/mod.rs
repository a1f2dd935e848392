//! What every measurement needs: the benchmark programs and how they are run, the files that they
//! read, the machine, and samples that are taken in turn, round by round.
//!
//! `measure` and `study` are built on it. It leaves the choice of measurements
//! and their length to them.

pub mod call_stats;
pub mod data_file;
pub mod environment;
pub mod fio;
pub mod live;
pub mod noise;
pub mod phase;
pub mod programs;
pub mod progress;
pub mod rounds;
pub mod samples;
pub mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use environment::Environment;
use programs::{Engine, Programs};

/// --quick promises to take a minute. Work that a part does once, outside its time budget, takes
/// the rest.
const QUICK: Duration = Duration::from_secs(48);

/// The data that every measurement needs.
#[derive(Clone)]
pub struct Bench {
    pub programs: Programs,
    /// The directory of the files that are read and written.
    pub dir: PathBuf,
    /// A directory inside `dir` for the files of overhead.c.
    pub calls_dir: PathBuf,
    pub quick: bool,
    /// Whether everything is measured, so that the time of a part does not depend on the others'.
    pub everything: bool,
    pub rounds: Option<u32>,
    /// The time when the build was finished.
    pub started: Instant,
    /// The engine that carries out the operations of parked fibers, as the shim names it, or `None`
    /// if there is none.
    pub engine: Option<String>,
}

/// Where the benchmark programs are and where their files go.
pub struct Places<'a> {
    pub dir: &'a Path,
    /// `None` for the directory beside this command.
    pub programs: Option<&'a Path>,
    /// The engine to request from the shim.
    pub engine: Option<Engine>,
}

impl Bench {
    /// Finds the programs, and the engine that the shim uses on this machine. Also returns the
    /// environment, with notes on missing features.
    pub fn prepare(
        places: &Places,
        quick: bool,
        everything: bool,
        rounds: Option<u32>,
    ) -> Result<(Bench, Environment)> {
        let mut bench = Bench {
            programs: Programs::find(places.programs, places.engine)?,
            calls_dir: directory(&places.dir.join("calls"), "--dir")?,
            dir: places.dir.to_owned(),
            quick,
            everything,
            rounds,
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
        Ok((bench, environment))
    }

    /// The same, with this engine requested from the shim. Returns an error if the shim does not
    /// use it here.
    pub fn with_engine(&self, engine: Engine) -> Result<Bench> {
        call_stats::ensure_engine(self, engine.name())?;
        Ok(Bench {
            programs: self.programs.with_engine(engine),
            ..self.clone()
        })
    }

    /// Returns an error if a waiting fiber would block all others, because the shim has no engine.
    pub fn ensure_fibers_can_wait(&self, what: &str) -> Result<()> {
        ensure!(
            self.engine.is_some(),
            "{what}: the shim has no engine, so a waiting fiber would block all others"
        );
        Ok(())
    }

    /// Returns the first of a pair with --quick, else the second.
    pub fn pick<T>(&self, (quick, whole): (T, T)) -> T {
        if self.quick { quick } else { whole }
    }

    /// Returns the time budget of a part. With --quick this is the first figure, limited to the
    /// rest of the minute unless everything is measured.
    pub fn budget(&self, quick_seconds: u64, seconds: u64) -> Duration {
        if !self.quick {
            return Duration::from_secs(seconds);
        }
        let quick = Duration::from_secs(quick_seconds);
        if self.everything {
            quick
        } else {
            quick.min(QUICK.saturating_sub(self.started.elapsed()))
        }
    }

    /// Returns whether to run another round after `done` rounds.
    pub fn more_rounds(&self, done: usize, at_least: usize, time_left: bool) -> bool {
        match self.rounds {
            Some(wanted) => done < wanted as usize,
            None => time_left || done < at_least,
        }
    }
}

/// Creates the directory that `option` names, and returns its absolute path.
pub fn directory(dir: &Path, option: &str) -> Result<PathBuf> {
    fs::create_dir_all(dir)
        .with_context(|| format!("{option} {}: cannot create the directory", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("{option} {}: cannot use the directory", dir.display()))
}
