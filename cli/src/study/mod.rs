//! The study: when asynchronous I/O beats blocking I/O, answered on this machine.
//!
//! Nine questions, each with experiments (`experiments/`), are measured by one runner within a
//! fixed time. All results go to one file, from which the report is made. A report has no value
//! that is not in the file.

mod answer;
mod cell;
mod estimate;
mod experiment;
mod experiments;
mod file;
mod instruments;
mod interrupt;
mod latency;
mod machine;
mod places;
mod plot;
mod progress;
pub mod report;
mod results;
mod runner;
mod unit;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::measure::Options;
use experiment::About;
use file::{Length, Study};
use machine::Machine;

/// How long a study takes, without the build.
const QUICK: Duration = Duration::from_secs(94);
const FULL: Duration = Duration::from_secs(18 * 60);

/// Measures the study. Exits with failure if something failed that this machine can measure.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (dir, out) = options.directories()?;
    let begun = options.resume.then(|| begun(&out)).transpose()?;
    let length = match &begun {
        Some(study) => study.length,
        None if options.full => Length::Full,
        None => Length::Quick,
    };
    let quick = length == Length::Quick;
    let (bench, environment) = Bench::prepare(&options.places(&dir), quick, true, options.rounds)?;
    interrupt::catch()?;
    print!("{environment}");
    let mut study =
        begun.unwrap_or_else(|| Study::new(length, options.question.clone(), environment.clone()));
    let machine = Machine::new(bench, environment);
    let asked = study.questions.clone();
    let wanted = |about: &About| asked.is_empty() || asked.contains(&about.question);
    let time = if quick { QUICK } else { FULL };
    let spent: f64 = study.experiments.iter().map(|record| record.seconds).sum();
    let left = time.saturating_sub(Duration::from_secs_f64(spent));
    runner::run(&mut study, wanted, &machine, left, &out)?;
    let path = out.join(file::NAME);
    println!("\n{}", report::verdict_in_words(&study));
    println!("report: {}", report::beside(&study, &path)?.display());
    println!("result file: {}", path.display());
    let failed = study.experiments.iter().any(|r| !r.failures.is_empty());
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The interrupted study in `out`.
fn begun(out: &Path) -> Result<Study> {
    let path = out.join(file::NAME);
    let study = Study::read(&path)?;
    ensure!(
        !study.complete,
        "{}: this study is complete, there is nothing to resume",
        path.display()
    );
    Ok(study)
}
