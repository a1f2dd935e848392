//! The benchmark programs, and the environment in which each is started.
//!
//! The caller's LD_PRELOAD, AIOSHIM* and FIBER_* variables are not passed on, so a mode is what its
//! label says.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

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

/// The values of AIOSHIM_ENGINE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    Auto,
    Uring,
    Aio,
    Threads,
    Sync,
}

impl Engine {
    /// The value of AIOSHIM_ENGINE that requests it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Auto => "auto",
            Engine::Uring => "uring",
            Engine::Aio => "aio",
            Engine::Threads => "threads",
            Engine::Sync => "sync",
        }
    }
}

/// The programs in the directory `bench` of the sources, and how they were built.
#[derive(Clone)]
pub struct Programs {
    pub overhead: PathBuf,
    pub throughput: PathBuf,
    pub fibers: PathBuf,
    pub mixed: PathBuf,
    pub matrix: PathBuf,
    pub stdio: PathBuf,
    pub locks: PathBuf,
    pub pingpong: PathBuf,
    pub loadgen: PathBuf,
    pub requests: PathBuf,
    /// The compiler and its flags.
    pub compiler: String,
    pub flags: Vec<String>,
    dir: PathBuf,
    shim: PathBuf,
    engine: Option<Engine>,
}

impl Programs {
    /// Finds the programs that `bench/build` wrote to `dir`. By default this is the directory
    /// `bench` beside the command itself.
    pub fn find(dir: Option<&Path>, engine: Option<Engine>) -> Result<Programs> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::current_exe()
                .context("cannot find the directory of this command")?
                .with_file_name("bench"),
        };
        let about = fs::read_to_string(dir.join("about")).with_context(|| {
            format!(
                "no benchmark programs in {}; scripts/measure in the sources of aioshim builds \
                them",
                dir.display()
            )
        })?;
        let said = |name: &str| {
            let mut lines = about.lines().filter_map(|line| line.split_once(": "));
            lines
                .find_map(|(key, value)| (key == name).then(|| value.to_owned()))
                .with_context(|| format!("{}: no line {name}", dir.join("about").display()))
        };
        let shim = Path::new(&said("libraries")?).join("libaioshim.so");
        ensure!(shim.exists(), "{}: no such file", shim.display());
        Ok(Programs {
            overhead: dir.join("overhead"),
            throughput: dir.join("throughput"),
            fibers: dir.join("fibers"),
            mixed: dir.join("mixed"),
            matrix: dir.join("matrix"),
            stdio: dir.join("stdio"),
            locks: dir.join("locks"),
            pingpong: dir.join("pingpong"),
            loadgen: dir.join("loadgen"),
            requests: dir.join("requests"),
            compiler: said("compiler")?,
            flags: said("flags")?.split(' ').map(str::to_owned).collect(),
            dir,
            shim,
            engine,
        })
    }

    /// The same programs, for which this engine is requested.
    #[must_use]
    pub fn with_engine(&self, engine: Engine) -> Programs {
        Programs {
            engine: Some(engine),
            ..self.clone()
        }
    }

    /// The program `name`, which bench/build has built for fibers and for pthreads.
    pub fn task_program(&self, name: &str, pthreads: bool) -> PathBuf {
        if pthreads {
            self.dir.join(format!("{name}-pthreads"))
        } else {
            self.dir.join(name)
        }
    }

    /// Returns a command for `program`, with or without the shim.
    pub fn command(&self, program: &Path, load: Load) -> Command {
        let mut command = Command::new(program);
        scrub(&mut command);
        if load != Load::Plain {
            command.env("LD_PRELOAD", &self.shim);
        }
        match (load, self.engine) {
            (Load::ShimOff, _) => command.env("AIOSHIM", "off"),
            (Load::Shim, Some(engine)) => command.env("AIOSHIM_ENGINE", engine.name()),
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
