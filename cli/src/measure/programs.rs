//! The benchmark programs, and the environment in which each is started.
//!
//! The caller's LD_PRELOAD, AIOSHIM* and FIBER_* variables are not passed on, so a mode is what its
//! label says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testprogs::{Flavor, libraries, program};

/// Whether the shim is loaded into the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Not preloaded.
    Plain,
    /// Preloaded.
    Shim,
    /// Preloaded, but switched off by AIOSHIM=off.
    ShimOff,
}

/// The programs of testprogs/c/bench.
pub struct Programs {
    pub overhead: PathBuf,
    pub throughput: PathBuf,
    pub fibers: PathBuf,
    pub mixed: PathBuf,
    pub matrix: PathBuf,
    pub stdio: PathBuf,
    pub locks: PathBuf,
    pub pingpong: PathBuf,
    shim: PathBuf,
    engine: Option<String>,
}

impl Programs {
    /// Builds the libraries and compiles the programs.
    ///
    /// # Panics
    /// Panics if a build fails. The compiler's message says why.
    pub fn build(engine: Option<String>) -> Programs {
        Programs {
            shim: libraries().aioshim.clone(),
            overhead: program("bench/overhead", Flavor::Plain),
            throughput: program("bench/throughput", Flavor::Plain),
            fibers: program("bench/fibers", Flavor::Plain),
            mixed: program("bench/mixed", Flavor::Plain),
            matrix: program("bench/matrix", Flavor::Plain),
            stdio: program("bench/stdio", Flavor::Plain),
            locks: program("bench/locks", Flavor::Plain),
            pingpong: program("bench/pingpong", Flavor::Plain),
            engine,
        }
    }

    /// Returns a command for `program`, with or without the shim.
    pub fn command(&self, program: &Path, load: Load) -> Command {
        let mut command = Command::new(program);
        scrub(&mut command);
        if load != Load::Plain {
            command.env("LD_PRELOAD", &self.shim);
        }
        match (load, &self.engine) {
            (Load::ShimOff, _) => command.env("AIOSHIM", "off"),
            (Load::Shim, Some(engine)) => command.env("AIOSHIM_ENGINE", engine),
            _ => &mut command,
        };
        command
    }
}

/// Removes the environment variables from `command` that could change its behaviour.
pub fn scrub(command: &mut Command) {
    let ours = |name: &OsStr| {
        let name = name.as_bytes();
        matches!(name, b"LD_PRELOAD" | b"LD_LIBRARY_PATH")
            || name.starts_with(b"AIOSHIM")
            || name.starts_with(b"FIBER_")
    };
    for (name, _) in std::env::vars_os() {
        if ours(&name) {
            command.env_remove(name);
        }
    }
}
