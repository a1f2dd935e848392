//! The file for the random reads: real data on a real disk, written once and kept for later runs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::statvfs;

use super::progress;

const MIB: u64 = 1 << 20;

/// The space that stays free beside the file; measuring must never fill a disk.
const SPARE: u64 = 256 * MIB;

/// Returns the file of `mib` MiB in `dir`. Creates it if it does not exist.
pub fn data_file(dir: &Path, mib: u64) -> Result<PathBuf> {
    let path = dir.join(format!("data.{mib}m"));
    if fs::metadata(&path).is_ok_and(|m| m.len() == mib * MIB) {
        return Ok(path);
    }
    ensure_space(dir, mib)?;
    progress::say(&format!("writing {} ({mib} MiB, once)", path.display()));
    // Rename the file only when it is complete.
    let partial = path.with_extension("partial");
    write(&partial, mib).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// Returns an error if the disk of `dir` has no room for `mib` MiB.
pub fn ensure_space(dir: &Path, mib: u64) -> Result<()> {
    let disk = statvfs(dir)
        .with_context(|| format!("{}: cannot determine the free space", dir.display()))?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= mib * MIB + SPARE,
        "{}: {} MiB free, {} MiB needed; free some space or choose another disk with --dir",
        dir.display(),
        free / MIB,
        mib + SPARE / MIB
    );
    Ok(())
}

/// Writes data that a disk can neither compress nor store as a hole.
fn write(path: &Path, mib: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunk = vec![0; MIB as usize];
    for _ in 0..mib {
        for word in chunk.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_ne_bytes();
        }
        file.write_all(&chunk)?;
    }
    file.sync_all()
}
