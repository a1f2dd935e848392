//! The state of the process: what the shim knows of descriptors, paths and latencies, its options,
//! its log, and the statics that the child of a fork replaces.

#[macro_use]
pub mod fork_reset;
#[macro_use]
pub mod loaded;
#[macro_use]
pub mod registry;

pub mod allocator;
pub mod attached;
pub mod blocked;
pub mod descriptors;
pub mod holds;
pub mod interposed;
pub mod latency;
pub mod loader;
pub mod log;
pub mod options;
pub mod recent_paths;
pub mod sanitizers;
pub mod seccomp;
pub mod sigsys;
pub mod spawn;
pub mod stderr;
pub mod symbol;
mod symbol_table;
