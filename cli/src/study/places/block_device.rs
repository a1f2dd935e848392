//! Block devices for the study: a loop device over a file, and a compressed RAM disk.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::live::Live;

/// A device. It is removed when this is dropped and it is not mounted any more.
pub struct BlockDevice {
    pub path: PathBuf,
    owner: Owner,
}

/// The owner of a device.
enum Owner {
    /// A loop device removes itself when it is closed.
    Loop(#[expect(dead_code, reason = "closes the device when it is dropped")] File),
    /// `aioshim ram-disk` in a child process. `None` once it is told to end.
    Child(Option<Live>),
}

/// Requests of <linux/loop.h>.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;

/// `LO_FLAGS_AUTOCLEAR`: the device removes itself at the last close. `LO_FLAGS_DIRECT_IO`: its
/// data is not cached a second time, as the file's.
const FLAGS: u32 = 4 | 16;

/// `struct loop_config`, which contains `struct loop_info64`.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    unused: [u64; 5],
    numbers: [u32; 3],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

impl BlockDevice {
    /// A loop device over a new file of `size` bytes in `dir`. The file has no name, so that it
    /// disappears with the device.
    pub fn over_file(dir: &Path, size: u64) -> Result<BlockDevice> {
        // mkfs.btrfs takes two devices over files of the same name for one.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = dir.join(format!("study.{}.{number}.disk", std::process::id()));
        let file = File::create_new(&name)
            .and_then(|_| OpenOptions::new().read(true).write(true).open(&name));
        let removed = fs::remove_file(&name);
        let file = file.with_context(|| format!("cannot create {}", name.display()))?;
        removed.with_context(|| format!("cannot remove {}", name.display()))?;
        file.set_len(size)?;
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control");
        let control = control.context("/dev/loop-control")?;
        // Another process may take the free device first.
        for _ in 0..16 {
            // SAFETY: the request has no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(std::io::Error::last_os_error()).context("no free loop device");
            }
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new().read(true).write(true).open(&path);
            let device = device.with_context(|| format!("cannot open {}", path.display()))?;
            match configure(&device, &file) {
                Ok(()) => {
                    return Ok(BlockDevice {
                        path,
                        owner: Owner::Loop(device),
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error).context("cannot configure a loop device"),
            }
        }
        bail!("other processes took each free loop device")
    }

    /// A RAM disk of `size` bytes: a zram device of a child process.
    pub fn in_memory(size: u64) -> Result<BlockDevice> {
        let aioshim = std::env::current_exe().context("cannot find this command")?;
        let mut command = Command::new(aioshim);
        command
            .args(["ram-disk", "--size", &size.to_string()])
            // Ctrl-C on a terminal goes to the whole process group, and would end it too early.
            .process_group(0);
        let mut child = Live::start(command, "ram-disk")?;
        let path = PathBuf::from(child.line()?);
        ensure!(path.exists(), "{}: no such device", path.display());
        Ok(BlockDevice {
            path,
            owner: Owner::Child(Some(child)),
        })
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        if let Owner::Child(child) = &mut self.owner
            && let Some(Err(error)) = child.take().map(Live::end)
        {
            eprintln!("measure: {error:#}");
        }
    }
}

fn configure(device: &File, file: &File) -> std::io::Result<()> {
    let config = LoopConfig {
        file: file.as_raw_fd().cast_unsigned(),
        block_size: 4096,
        unused: [0; 5],
        numbers: [0; 3],
        flags: FLAGS,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the request reads a structure of this layout, which lives during the call. The kernel
    // keeps its own reference to the file.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::LoopConfig;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<LoopConfig>(), 8 + 232 + 64);
        assert_eq!(std::mem::offset_of!(LoopConfig, flags), 8 + 52);
        assert_eq!(std::mem::offset_of!(LoopConfig, reserved), 8 + 232);
    }
}
