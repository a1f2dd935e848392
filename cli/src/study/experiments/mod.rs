//! The experiments, in the order of their questions.
//!
//! Each is a file with a type that implements `Experiment`, and a line in `all`.

mod asynchronous;
mod blocking;
mod buffer;
mod caches;
mod completion;
mod descheduling;
mod late_writer;
mod many_files;
mod many_threads;
mod map;
mod requests;
mod stopwatch;
mod utilisation;
mod wakeup;
mod whole_programs;

use super::experiment::Experiment;

/// All experiments, in the order in which they run and are reported.
pub fn all() -> Vec<Box<dyn Experiment>> {
    vec![
        Box::new(blocking::Sizes::default()),
        Box::new(blocking::FileSystems::default()),
        Box::new(blocking::Latencies::default()),
        Box::new(descheduling::Descheduling::default()),
        Box::new(asynchronous::Submission::default()),
        Box::new(asynchronous::Sustained::default()),
        Box::new(completion::Answering::default()),
        Box::new(completion::Interrupts::default()),
        Box::new(wakeup::Wakeup::default()),
        Box::new(many_threads::ManyThreads::default()),
        Box::new(whole_programs::WholePrograms::default()),
        Box::new(caches::WriteBack::default()),
        Box::new(caches::Buffers::default()),
        Box::new(many_files::ManyFiles::default()),
        Box::new(utilisation::Utilisation::default()),
        Box::new(map::Map::default()),
    ]
}
