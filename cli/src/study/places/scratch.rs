//! A directory that is removed with everything in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::cleanup::{Guard, guard};

/// The directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _guard: Guard,
}

impl Scratch {
    /// Creates a directory in `dir`.
    pub fn new_in(dir: &Path) -> Result<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("study.{}.{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let removed = path.clone();
        let guard = guard(move || {
            // A file system that could not be unmounted keeps its mount point.
            let _ = fs::remove_dir_all(removed);
        });
        Ok(Scratch {
            path,
            _guard: guard,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Scratch;

    #[test]
    fn it_is_removed_with_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let scratch = Scratch::new_in(dir.path()).expect("another in it");
        fs::write(scratch.path().join("file"), "text").expect("a file");
        drop(scratch);
        assert_eq!(fs::read_dir(dir.path()).expect("it lists").count(), 0);
    }
}
