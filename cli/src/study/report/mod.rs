//! `aioshim report`: the report of a study, made from its result file alone.

mod compare;
mod html;
mod markdown;
mod markup;
mod plots;
mod questions;
mod sentence;
mod terminal;
mod verdict;
mod view;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::file::{NAME, Study};

/// Where the result files are, and what to make of them.
#[derive(Args)]
pub struct Options {
    /// The result file [default: target/measure/study.json]
    file: Option<PathBuf>,
    /// Show two result files side by side
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["file", "markdown"])]
    compare: Option<Vec<PathBuf>>,
    /// Write Markdown instead of HTML
    #[arg(long)]
    markdown: bool,
    /// Where to write the report; `-` for standard output [default: beside the result file]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// Makes a report.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some([a, b]) = options.compare.as_deref() {
        let (of_a, of_b) = (Study::read(a)?, Study::read(b)?);
        let (name_a, name_b) = (a.display().to_string(), b.display().to_string());
        let side = |study, name| compare::Side { study, name };
        let text = compare::page(&side(&of_a, &name_a), &side(&of_b, &name_b));
        return publish(options, &b.with_file_name("compare.html"), &text);
    }
    let default = Path::new("target/measure").join(NAME);
    let path = options.file.as_ref().unwrap_or(&default);
    let study = Study::read(path)?;
    let name = file_name(path);
    if options.markdown {
        let text = markdown::page(&study, &name);
        publish(options, &path.with_extension("md"), &text)
    } else {
        let text = html::page(&study, &name);
        publish(options, &path.with_extension("html"), &text)
    }
}

fn publish(options: &Options, default: &Path, text: &str) -> Result<ExitCode> {
    let path = options.output.as_deref().unwrap_or(default);
    if path == Path::new("-") {
        let written = std::io::stdout().write_all(text.as_bytes());
        written.context("cannot write to standard output")?;
    } else {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("report: {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the report of `study` beside its result file `path`, and returns its path.
pub fn beside(study: &Study, path: &Path) -> Result<PathBuf> {
    let report = path.with_extension("html");
    fs::write(&report, html::page(study, &file_name(path)))
        .with_context(|| format!("cannot write {}", report.display()))?;
    Ok(report)
}

/// The verdict for a terminal.
pub fn verdict_in_words(study: &Study) -> String {
    terminal::verdict(study)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
