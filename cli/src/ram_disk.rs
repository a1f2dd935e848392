//! `aioshim ram-disk`: a block device in memory, which is removed when the standard input closes.
//!
//! The study holds one in a child process. However the study ends, the kernel closes the pipe, and
//! the child removes the device as soon as nothing is mounted on it any more.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// How long the device may stay busy after the standard input has closed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The size of the device.
#[derive(Args)]
pub struct Options {
    /// The size of the device in bytes
    #[arg(long, value_name = "N")]
    size: u64,
}

/// Leaves the mount namespace of the study for a copy, before anything on the device is mounted.
/// Otherwise a file system on the device would stay mounted there as long as this process lives,
/// and the device would stay busy.
fn leave_mounts_of_study() {
    // SAFETY: a mount namespace of its own changes no memory and no descriptor of this process.
    // If it is refused, the device can be removed once the study has unmounted it.
    let _ = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
}

/// Creates a zram device, prints its path, and removes it when the standard input closes.
pub fn run(options: &Options) -> Result<ExitCode> {
    leave_mounts_of_study();
    let control = Path::new("/sys/class/zram-control");
    let number = fs::read_to_string(control.join("hot_add"))
        .context("the kernel has no zram, whose devices are created on demand")?;
    let number = number.trim();
    let block = PathBuf::from(format!("/sys/block/zram{number}"));
    let offered = offer(&block, options.size);
    let start = Instant::now();
    let removed = loop {
        // The kernel refuses both while the device is in use.
        let removed = fs::write(block.join("reset"), "1")
            .and_then(|()| fs::write(control.join("hot_remove"), number));
        if removed.is_ok() || start.elapsed() > PATIENCE {
            break removed;
        }
        thread::sleep(Duration::from_millis(20));
    };
    removed.with_context(|| format!("cannot remove {}", block.display()))?;
    offered.map(|()| ExitCode::SUCCESS)
}

/// Sets the size, prints the path, and waits until the standard input closes.
fn offer(block: &Path, size: u64) -> Result<()> {
    let disksize = fs::write(block.join("disksize"), size.to_string());
    disksize.context("cannot set the size of a zram device")?;
    let path = Path::new("/dev").join(block.file_name().context("a device has a name")?);
    ensure!(path.exists(), "{}: no such device", path.display());
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", path.display()).and_then(|()| stdout.flush())?;
    // An error also means that the other end is closed.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
