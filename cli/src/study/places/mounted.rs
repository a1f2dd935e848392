//! A file system on a block device of the study's own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::block_device::BlockDevice;
use super::cleanup::{Guard, guard};
use super::scratch::Scratch;

/// A file system that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }

    /// The arguments of its mkfs. Nothing may be left for the kernel to initialise later, while
    /// something is measured.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            FileSystem::Ext4 => &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            FileSystem::Xfs | FileSystem::Btrfs => &["-q", "-f"],
        }
    }

    /// The bytes that its mkfs demands at least, with room for the files of the study.
    pub fn size(self) -> u64 {
        match self {
            FileSystem::Ext4 => 192 << 20,
            FileSystem::Xfs => 320 << 20,
            FileSystem::Btrfs => 256 << 20,
        }
    }
}

/// The mounted file system. The fields are dropped in this order: it is unmounted first.
pub struct Mounted {
    _guard: Guard,
    pub device: BlockDevice,
    pub dir: Scratch,
}

impl Mounted {
    /// Makes the file system on `device` and mounts it in `dir`. This thread must have its own
    /// mount namespace.
    pub fn new(kind: FileSystem, device: BlockDevice, dir: &Path) -> Result<Mounted> {
        make(kind, &device.path)?;
        let dir = Scratch::new_in(dir)?;
        let (source, target) = (&device.path, dir.path());
        let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID;
        mount(source, target, kind.name(), flags, None)
            .with_context(|| format!("cannot mount {} as {}", source.display(), kind.name()))?;
        let mounted_on = target.to_owned();
        let guard = guard(move || {
            // It fails only if it is unmounted already.
            let _ = unmount(mounted_on, UnmountFlags::DETACH);
        });
        Ok(Mounted {
            _guard: guard,
            device,
            dir,
        })
    }
}

fn make(kind: FileSystem, device: &Path) -> Result<()> {
    let program = format!("mkfs.{}", kind.name());
    let output = Command::new(&program)
        .args(kind.arguments())
        .arg(device)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| anyhow!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(())
}
