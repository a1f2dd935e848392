//! Finds libaioshim.so and the adapters, which are called libaioshim_NAME.so.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::hosts;

const SHIM: &str = "libaioshim.so";

/// The directories that may hold the libraries, in the order in which they are searched.
pub struct Libraries {
    dirs: Vec<PathBuf>,
    /// The directory of this command.
    own: PathBuf,
}

impl Libraries {
    /// The directories `given` by the user, that of the command at `command`, as in a build, and
    /// the `lib` beside it, as in an installation.
    pub fn new(given: &[PathBuf], command: &Path) -> Self {
        let own = command.parent().unwrap_or(Path::new("/")).to_owned();
        let mut dirs = given.to_vec();
        dirs.extend([own.clone(), own.join("../lib")]);
        Self { dirs, own }
    }

    /// The path of libaioshim.so.
    pub fn shim(&self) -> Result<PathBuf> {
        match self.find(SHIM) {
            Some(path) => Ok(path),
            None => bail!(
                "no {SHIM} in {}; give its directory by --libdir",
                self.listed()
            ),
        }
    }

    /// The path of the adapter for the host called `name`.
    pub fn adapter(&mut self, name: &str) -> Result<PathBuf> {
        if let Some(advice) = hosts::instead_of_a_library(name) {
            bail!(advice);
        }
        let file = format!("libaioshim_{}.so", hosts::library_name(name));
        if let Some(folder) = hosts::folder(name) {
            // The command is in target/release of a build.
            self.dirs
                .push(self.own.join("../../hosts").join(folder).join("build"));
        }
        if let Some(path) = self.find(&file) {
            return Ok(path);
        }
        let known = self.adapters();
        let known = match known.is_empty() {
            true => "there are no adapters".to_owned(),
            false => format!("there are: {}", known.join(", ")),
        };
        bail!("no {file} in {}; {known}", self.listed())
    }

    fn find(&self, file: &str) -> Option<PathBuf> {
        let path = self
            .dirs
            .iter()
            .map(|dir| dir.join(file))
            .find(|p| p.is_file())?;
        // The program may change its directory and start others.
        std::path::absolute(&path).ok()
    }

    /// The names of the adapters that are there.
    fn adapters(&self) -> Vec<String> {
        let entries = self.dirs.iter().filter_map(|dir| dir.read_dir().ok());
        let files = entries
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = files
            .filter_map(|file| {
                let name = file.strip_prefix("libaioshim_")?.strip_suffix(".so")?;
                Some(name.to_owned())
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn listed(&self) -> String {
        let dirs: Vec<String> = self
            .dirs
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        dirs.join(" or ")
    }
}

/// `path`, if the dynamic loader can read it from LD_PRELOAD, whose separators are colons and
/// spaces.
pub fn for_the_loader(path: &Path) -> Result<&Path> {
    let bytes = path.as_os_str().as_bytes();
    ensure!(
        !bytes.iter().any(|byte| b": ".contains(byte)),
        "{}: a path with a colon or a space cannot be preloaded",
        path.display()
    );
    Ok(path)
}
