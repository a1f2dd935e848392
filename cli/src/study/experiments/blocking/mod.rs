//! Question 1: what a blocking call costs, and how long it takes to return.

mod calls;
mod file_systems;
mod latencies;
mod sizes;

pub use calls::{Call, Files, write_data};
pub use file_systems::FileSystems;
pub use latencies::Latencies;
pub use sizes::Sizes;

use std::time::Duration;

use super::stopwatch::Length;
use crate::study::machine::Machine;

/// The length of one measurement.
fn length(machine: &Machine) -> Length {
    Length {
        time: Duration::from_millis(machine.pick((8, 20))),
        least: 2,
        most: 20_000,
    }
}

/// Why the answer of an experiment cannot be given.
fn nothing_measured(what: &str) -> String {
    format!("Nothing of {what} could be measured.")
}

/// Returns why FUSE cannot be used.
pub fn fuse_is_usable() -> Result<(), String> {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    device
        .map(drop)
        .map_err(|error| format!("FUSE needs /dev/fuse, which cannot be opened: {error}"))
}
