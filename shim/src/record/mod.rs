//! What the shim observes and reports: [`stats`] counts calls, [`trace`] records them, [`unhooked`]
//! counts system calls that no hook sees, and [`watchdog`] reports fibers that do not yield. A
//! [`Recorder`] is one thread's part of them.

pub mod handlers;
mod recorder;
pub mod stats;
pub mod trace;
pub mod unhooked;
pub mod watchdog;

pub use recorder::Recorder;
