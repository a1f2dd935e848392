//! Directories for what a test writes.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::libraries::target_dir;

/// A directory of its own, removed when dropped. It lies under the target directory and not in
/// /tmp, which may be a tmpfs: O_DIRECT and fsync shall mean something.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// Makes an empty one.
    ///
    /// # Panics
    /// When the disk does not let it.
    #[expect(
        clippy::new_without_default,
        reason = "it makes a directory: not something a default does"
    )]
    pub fn new() -> Scratch {
        let parent = target_dir().join("testprogs").join("tmp");
        std::fs::create_dir_all(&parent).expect("the target directory is writable");
        let dir = tempfile::Builder::new()
            .prefix("t")
            .tempdir_in(&parent)
            .expect("the target directory is writable");
        Scratch { dir }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it; nothing is made.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the directory `name` in it.
    ///
    /// # Panics
    /// When it exists already.
    pub fn subdir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Writes the file `name` in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}
