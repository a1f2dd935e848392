//! `aioshim slow-files`: a FUSE file system whose reads and writes take a chosen time, as those of
//! a disk with that latency would.
//!
//! The study mounts it in a child process, so a hang of the file system can never take the study
//! with it. The child unmounts and ends when its standard input closes, which also happens when its
//! parent dies.

mod content;
mod filesystem;
mod timer;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use fuser::{Config, MountOption, Session};

use filesystem::SlowFiles;

/// The word that the command prints once the file system is mounted.
pub const READY: &str = "ready";

/// The mount point, and the number and size of the files.
#[derive(Args)]
pub struct Options {
    /// The directory to mount it on
    dir: PathBuf,
    /// Answer each read, write and fsync after this many microseconds
    #[arg(long, value_name = "N")]
    latency_us: u64,
    /// Offer this many files, named by number
    #[arg(long, value_name = "N", default_value_t = 1)]
    files: u64,
    /// The size of each file in bytes
    #[arg(long, value_name = "N", default_value_t = 4096)]
    size: u64,
}

/// Mounts the file system, prints [`READY`], and unmounts it when the standard input closes.
pub fn run(options: &Options) -> Result<ExitCode> {
    let latency = Duration::from_micros(options.latency_us);
    let files = SlowFiles::new(latency, options.files, options.size)?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("aioshim-slow-files".to_owned()),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
    ];
    let mounted = Session::new(files, &options.dir, &config)
        .and_then(Session::spawn)
        .with_context(|| format!("{}: cannot mount a FUSE file system", options.dir.display()))?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}").and_then(|()| stdout.flush())?;
    // An error also means that the other end is closed.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    if mounted.umount_and_join().is_err() {
        // A file is still open. The mount point goes now, the rest when this process ends.
        let detach = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(&options.dir, detach)
            .with_context(|| format!("{}: cannot unmount", options.dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
