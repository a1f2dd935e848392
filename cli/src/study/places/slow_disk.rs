//! `aioshim slow-files` in a child process: files whose reads take a chosen time.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};

use super::cleanup::{Guard, guard};
use super::scratch::Scratch;
use crate::bench::live::Live;
use crate::slow_files::READY;

/// The mounted file system.
pub struct SlowDisk {
    /// `None` once it is told to end.
    child: Option<Live>,
    /// Unmounts it if the process ends early, so that the directory can be removed. The child ends
    /// by itself, because its standard input closes.
    _guard: Guard,
    pub dir: Scratch,
}

impl SlowDisk {
    /// Mounts `files` files of `size` bytes in a directory inside `dir`.
    pub fn mount(dir: &Path, latency: Duration, files: u32, size: u64) -> Result<SlowDisk> {
        let dir = Scratch::new_in(dir)?;
        let aioshim = std::env::current_exe().context("cannot find this command")?;
        let mut command = Command::new(aioshim);
        command
            .arg("slow-files")
            .arg(dir.path())
            .args(["--latency-us", &latency.as_micros().to_string()])
            .args(["--files", &files.to_string(), "--size", &size.to_string()])
            // Ctrl-C on a terminal goes to the whole process group, and would end it too early.
            .process_group(0);
        let mut child = Live::start(command, "slow-files")?;
        let line = child.line()?;
        ensure!(line == READY, "slow-files: unexpected output {line:?}");
        let mounted_on = dir.path().to_owned();
        let guard = guard(move || {
            // It fails if the child has unmounted it already.
            let _ = unmount(mounted_on, UnmountFlags::DETACH);
        });
        Ok(SlowDisk {
            child: Some(child),
            _guard: guard,
            dir,
        })
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let ended = self.child.take().map(Live::end);
        if let Some(Err(error)) = ended {
            eprintln!("measure: {error:#}");
        }
    }
}
