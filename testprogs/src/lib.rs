//! Builds the two libraries and the C programs, and runs the programs with and without the preload.
//!
//! [`libraries()`] builds the libraries under test, [`program`] compiles one file of `c/`, [`Run`]
//! runs it and returns its output, and [`Scratch`] is a directory on a real disk.

mod compile;
mod distribution;
mod filesystem;
mod libraries;
mod run;
mod scratch;
mod tool;

pub use compile::{Flavor, c_compiler, cxx_compiler, cxx_program, program, shared_object};
pub use distribution::Distribution;
pub use filesystem::Mounted;
pub use format::{Call, Stats};
pub use libraries::{Libraries, c_sources, libraries, target_dir, workspace};
pub use run::{Launcher, Outcome, Run};
pub use scratch::Scratch;
pub use tool::{Refusal, Tool, number, skip};
