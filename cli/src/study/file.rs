//! The result file of a study: `study.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Answer;
use super::results::Results;
use crate::bench::environment::Environment;

/// The name of the file.
pub const NAME: &str = "study.json";

const FORMAT: &str = "aioshim study";

/// Raised whenever an older command would misread the file.
pub const VERSION: u32 = 1;

/// A study: everything that was measured on one machine.
#[derive(Deserialize, Serialize)]
pub struct Study {
    pub format: String,
    pub version: u32,
    pub length: Length,
    /// The questions that it asks; all if empty.
    pub questions: Vec<u8>,
    /// Whether every experiment has had its time.
    pub complete: bool,
    pub machine: Environment,
    pub experiments: Vec<Record>,
}

/// How long a study takes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    Quick,
    Full,
}

/// One experiment of a study.
#[derive(Clone, Deserialize, Serialize)]
pub struct Record {
    pub question: u8,
    pub id: String,
    pub title: String,
    pub method: String,
    /// Why the machine cannot run it.
    pub skipped: Option<String>,
    /// Whether it has had its time.
    pub finished: bool,
    /// How often it has had a part of its time.
    #[serde(default)]
    pub passes: u32,
    pub rounds: usize,
    pub seconds: f64,
    /// The number of processors that other programs kept busy during it.
    pub processors_busy_with_others: Option<f64>,
    /// What a reader must know, such as cells that this machine cannot measure.
    pub notes: Vec<String>,
    /// What failed.
    pub failures: Vec<String>,
    pub answer: Answer,
    pub cells: Results,
}

impl Study {
    pub fn new(length: Length, questions: Vec<u8>, machine: Environment) -> Study {
        Study {
            format: FORMAT.to_owned(),
            version: VERSION,
            length,
            questions,
            complete: false,
            machine,
            experiments: Vec::new(),
        }
    }

    /// Reads a result file. A file of another version gives one clear error.
    pub fn read(path: &Path) -> Result<Study> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{}: not a result file of a study", path.display()))?;
        ensure!(
            value["format"] == FORMAT,
            "{}: not a result file of a study",
            path.display()
        );
        match value["version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => bail!(
                "{}: version {version} of the format, but this command reads version {VERSION}; \
                measure again, or use the command that wrote it",
                path.display()
            ),
            None => bail!("{}: the file does not say its version", path.display()),
        }
        serde_json::from_value(value)
            .with_context(|| format!("{}: not a result file of a study", path.display()))
    }

    /// Writes the file into `dir`. A reader sees either the former file or all of the new one.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(NAME);
        let partial = path.with_extension("partial");
        let text = serde_json::to_string(self)?;
        fs::write(&partial, text + "\n")
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
