//! The file of the random reads: real data on a real disk, written once and kept for the next time.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::statvfs;

use super::progress;

const MIB: u64 = 1 << 20;

/// Left free beside the file, so that measuring never fills a disk.
const SPARE: u64 = 256 * MIB;

/// The file of `mib` MiB in `dir`, made first unless it is there.
pub fn data_file(dir: &Path, mib: u64) -> Result<PathBuf> {
    let path = dir.join(format!("data.{mib}m"));
    if fs::metadata(&path).is_ok_and(|m| m.len() == mib * MIB) {
        return Ok(path);
    }
    let disk = statvfs(dir).with_context(|| format!("{}: free space unknown", dir.display()))?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= mib * MIB + SPARE,
        "{}: {} MiB free, {} needed; free some, or name another disk with --dir",
        dir.display(),
        free / MIB,
        mib + SPARE / MIB
    );
    progress::say(&format!("writing {} ({mib} MiB, once)", path.display()));
    // Only a whole file gets the name.
    let partial = path.with_extension("partial");
    write(&partial, mib).with_context(|| format!("{}: cannot be written", partial.display()))?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// Data no disk can take for a hole or squeeze.
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
