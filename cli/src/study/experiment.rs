//! What an experiment is: a method that answers one of the study's nine questions.
//!
//! An experiment lists its cells, each of which is a contender at a point of the axes, such as
//! "pread" at size 4096 and cache "cold". The runner measures cells in turn, round by round, for as
//! long as the experiment's share of the time lasts. The experiment then makes a sentence and plots
//! of the results.

use super::answer::Answer;
use super::cell::{Cell, Sample};
use super::machine::Machine;
use super::results::Results;

/// One experiment.
pub trait Experiment {
    fn about(&self) -> About;

    /// Returns why this machine cannot run it, as a sentence without a full stop that names the
    /// obstacle: "FUSE needs /dev/fuse, which cannot be opened: permission denied".
    fn available(&self, machine: &Machine) -> Result<(), String>;

    /// Makes the files it needs, and returns the cells to measure. Cells at the same point stand
    /// beside each other: they are measured within moments of each other, and a round begins with
    /// another one of them each time. A cell that this machine cannot measure is left out, and
    /// `notes` says why.
    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> anyhow::Result<Vec<Cell>>;

    /// Measures `cell` once. It should take 5 to 50 ms: a quick study has a minute and a half
    /// for everything, and an interval needs several rounds.
    fn measure(&mut self, machine: &Machine, cell: &Cell) -> anyhow::Result<Sample>;

    /// What the results say. They may be incomplete: a cell may have failed, or the study may have
    /// been interrupted.
    fn answer(&self, results: &Results) -> Answer;
}

/// The fixed properties of an experiment.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The number of the question, 1 to 9.
    pub question: u8,
    /// A name for files and command lines: lower case, words joined by hyphens.
    pub id: &'static str,
    pub title: &'static str,
    /// How it is measured, in one or two sentences.
    pub method: &'static str,
    /// The part of the time of a quick study that it gets, and of a full one, relative to the
    /// others.
    pub weight: (f64, f64),
}
