//! File systems for tests: images on loop devices.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::scratch::Scratch;
use crate::tool::{Tool, skip};

/// A mounted file system; dropping the value unmounts it.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    /// Contains the image and the mount point; removed after the file system is unmounted.
    _scratch: Scratch,
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

impl Mounted {
    /// Creates and mounts a file system of the type `kind` with `mkfs.kind`. If that is not
    /// possible, skips and returns None.
    ///
    /// # Panics
    /// When mkfs fails.
    pub fn new(kind: &str) -> Option<Mounted> {
        /// Large enough for xfs, which has the highest minimum.
        const SIZE: u64 = 320 << 20;
        let mkfs = Tool::find(&format!("mkfs.{kind}"))?;
        let scratch = Scratch::new();
        let image = scratch.join("image");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(SIZE))
            .expect("a sparse file");
        let made = run(Command::new(mkfs.path()).arg("-q").arg(&image));
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let at = scratch.subdir("at");
        let mounted = run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &at]));
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr);
            skip(&format!("{kind} cannot be mounted: {}", why.trim()));
            return None;
        }
        Some(Mounted {
            at,
            _scratch: scratch,
        })
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.at));
    }
}
