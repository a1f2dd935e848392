//! Directories for the files that a test writes.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::libraries::target_dir;

/// A temporary directory, removed when dropped. It is in the target directory instead of /tmp,
/// because /tmp may be a tmpfs, where O_DIRECT and fsync have no effect.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// Creates an empty directory.
    ///
    /// # Panics
    /// When the target directory is not writable.
    #[expect(
        clippy::new_without_default,
        reason = "it creates a directory, which a default should not do"
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

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the directory; creates nothing.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Creates the subdirectory `name`.
    ///
    /// # Panics
    /// When it already exists.
    pub fn subdir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Writes the file `name` in the directory.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}
