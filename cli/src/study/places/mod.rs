//! The places where the study reads and writes files: the user's own disk, and file systems that it
//! makes for itself.

mod block_device;
pub mod cleanup;
pub mod mounted;
mod namespace;
pub mod scratch;
pub mod slow_disk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::statfs;

use block_device::BlockDevice;
use mounted::{FileSystem, Mounted};
use scratch::Scratch;
use slow_disk::SlowDisk;

/// The magic number of tmpfs in statfs(2).
const TMPFS: u64 = 0x0102_1994;

/// A directory on some file system. It is removed when this is dropped.
pub struct Place {
    pub name: String,
    pub dir: PathBuf,
    pub kind: Kind,
}

/// The owner of a place's directory.
pub enum Kind {
    Directory(#[expect(dead_code, reason = "removes the directory when it is dropped")] Scratch),
    Mounted(Mounted),
    Slow(#[expect(dead_code, reason = "unmounts when it is dropped")] SlowDisk),
}

impl Place {
    /// A directory inside `dir`.
    pub fn inside(dir: &Path, name: impl Into<String>) -> Result<Place> {
        let scratch = Scratch::new_in(dir)?;
        Ok(Place {
            name: name.into(),
            dir: scratch.path().to_owned(),
            kind: Kind::Directory(scratch),
        })
    }

    /// A directory on the tmpfs of /dev/shm.
    pub fn tmpfs() -> Result<Place> {
        let dir = Path::new("/dev/shm");
        let kind = statfs(dir).context("/dev/shm")?.f_type;
        ensure!(kind.cast_unsigned() == TMPFS, "/dev/shm is no tmpfs");
        Place::inside(dir, "tmpfs")
    }

    /// A new file system on a loop device over a file in `dir`.
    pub fn on_loop_device(kind: FileSystem, dir: &Path) -> Result<Place> {
        namespace::enter().map_err(|reason| anyhow!(reason))?;
        let device = BlockDevice::over_file(dir, kind.size())?;
        Place::on_device(kind, device, dir, "a loop device")
    }

    /// A new ext4 on a block device in memory: zram, or else a loop device over a file in tmpfs.
    pub fn on_ram_disk(dir: &Path) -> Result<Place> {
        namespace::enter().map_err(|reason| anyhow!(reason))?;
        let kind = FileSystem::Ext4;
        if let Ok(device) = BlockDevice::in_memory(kind.size()) {
            return Place::on_device(kind, device, dir, "a RAM disk (zram)");
        }
        let memory = Place::tmpfs()?;
        let device = BlockDevice::over_file(&memory.dir, kind.size())?;
        Place::on_device(kind, device, dir, "a RAM disk (loop device)")
    }

    fn on_device(kind: FileSystem, device: BlockDevice, dir: &Path, on: &str) -> Result<Place> {
        let mounted = Mounted::new(kind, device, dir)?;
        Ok(Place {
            name: format!("{} on {on}", kind.name()),
            dir: mounted.dir.path().to_owned(),
            kind: Kind::Mounted(mounted),
        })
    }

    /// A FUSE file system of `files` files of `size` bytes, named by number from 0, whose reads and
    /// writes take `latency` and the way to its process and back.
    pub fn slow(dir: &Path, latency: Duration, files: u32, size: u64) -> Result<Place> {
        // Without it, fusermount may still mount the file system where everybody sees it.
        let _ = namespace::enter();
        let disk = SlowDisk::mount(dir, latency, files, size)?;
        Ok(Place {
            name: match latency {
                Duration::ZERO => "FUSE".to_owned(),
                _ => format!("FUSE with {}", name_of(latency)),
            },
            dir: disk.dir.path().to_owned(),
            kind: Kind::Slow(disk),
        })
    }
}

/// Formats a latency in its largest unit: "200 us", "5 ms".
pub fn name_of(latency: Duration) -> String {
    match latency.as_micros() {
        us if us % 1000 == 0 && us > 0 => format!("{} ms", us / 1000),
        us => format!("{us} us"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use super::mounted::FileSystem;
    use super::{Place, name_of};

    /// Writes and reads a file, drops the place, and checks that nothing of it is left in `dir`.
    fn check(place: anyhow::Result<Place>, dir: &Path) {
        match place {
            Ok(place) => {
                let file = place.dir.join("file");
                fs::write(&file, "text").expect("it takes files");
                assert_eq!(fs::read(&file).expect("it keeps them"), b"text");
                let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("/proc");
                assert!(mounts.contains(&place.dir.display().to_string()));
                let dir = place.dir.clone();
                drop(place);
                let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("/proc");
                assert!(!mounts.contains(&dir.display().to_string()));
            }
            Err(reason) => eprintln!("skipped: {reason:#}"),
        }
        assert_eq!(fs::read_dir(dir).expect("it lists").count(), 0);
    }

    #[test]
    fn file_systems_come_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        for kind in [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs] {
            check(Place::on_loop_device(kind, dir.path()), dir.path());
        }
        check(Place::on_ram_disk(dir.path()), dir.path());
    }

    #[test]
    fn latencies_have_names() {
        assert_eq!(name_of(Duration::from_micros(50)), "50 us");
        assert_eq!(name_of(Duration::from_millis(10)), "10 ms");
        assert_eq!(name_of(Duration::ZERO), "0 us");
    }
}
