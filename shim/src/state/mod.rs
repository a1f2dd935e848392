//! The state of the process: what the shim knows of descriptors, paths and latencies, its options,
//! its log, and the statics that the child of a fork replaces.

pub mod allocator;
pub mod descriptors;
pub mod latency;
pub mod loader;
pub mod log;
pub mod options;
pub mod recent_paths;
pub mod registry;
pub mod seccomp;
pub mod spawn;
pub mod stderr;
pub mod symbol;
