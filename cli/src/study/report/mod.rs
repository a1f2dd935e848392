//! `aioshim report`: the report of a study, made from its result file alone.

mod agreement;
mod compare;
mod html;
mod markdown;
mod marks;
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
    /// Show two result files side by side, and say whether they agree. Exits with 1 if they
    /// disagree on a direction by more than the intervals, and with 2 if something failed
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["file", "markdown"])]
    compare: Option<Vec<PathBuf>>,
    /// Write the figures again in this Markdown page, between lines such as `<!-- study: answer map
    /// -->` and `<!-- end -->`; with --compare, those of A
    #[arg(long, value_name = "PAGE", conflicts_with_all = ["markdown", "output"])]
    page: Option<PathBuf>,
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
        return Ok(compare(options, a, b).unwrap_or_else(|error| {
            eprintln!("aioshim: {error:#}");
            ExitCode::from(2)
        }));
    }
    let default = Path::new("target/measure").join(NAME);
    let path = options.file.as_ref().unwrap_or(&default);
    let study = Study::read(path)?;
    if let Some(page) = &options.page {
        refresh(page, &study, None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = file_name(path);
    if options.markdown {
        let text = markdown::page(&study, &name);
        publish(options, &path.with_extension("md"), &text)?;
    } else {
        let text = html::page(&study, &name);
        publish(options, &path.with_extension("html"), &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares two studies. Fails if they disagree.
fn compare(options: &Options, a: &Path, b: &Path) -> Result<ExitCode> {
    let (of_a, of_b) = (Study::read(a)?, Study::read(b)?);
    match &options.page {
        Some(page) => refresh(page, &of_a, Some(&of_b))?,
        None => {
            let (name_a, name_b) = (a.display().to_string(), b.display().to_string());
            let side = |study, name| compare::Side { study, name };
            let text = compare::page(&side(&of_a, &name_a), &side(&of_b, &name_b));
            publish(options, &b.with_file_name("compare.html"), &text)?;
        }
    }
    let (words, agree) = compare::agreement_in_words(&of_a, &of_b);
    match options.output.as_deref() {
        Some(path) if path == Path::new("-") => eprint!("{words}"),
        _ => print!("{words}"),
    }
    Ok(ExitCode::from(u8::from(!agree)))
}

/// Writes the figures in `page` again.
fn refresh(page: &Path, study: &Study, again: Option<&Study>) -> Result<()> {
    let name = page.display();
    let text = fs::read_to_string(page).with_context(|| format!("cannot read {name}"))?;
    let refreshed = marks::refresh(&text, study, again);
    let (text, many) = refreshed.with_context(|| name.to_string())?;
    // A reader sees either the former page or all of the new one.
    let partial = page.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, page))
        .with_context(|| format!("cannot write {name}"))?;
    println!("page: {name}, {many} parts written");
    Ok(())
}

fn publish(options: &Options, default: &Path, text: &str) -> Result<()> {
    let path = options.output.as_deref().unwrap_or(default);
    if path == Path::new("-") {
        let written = std::io::stdout().write_all(text.as_bytes());
        written.context("cannot write to standard output")?;
    } else {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("report: {}", path.display());
    }
    Ok(())
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
