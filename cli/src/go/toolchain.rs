//! The Go that builds in a directory. The go.mod there may select another version than the `go` on
//! PATH, so only that command can tell.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What `go env` says.
#[derive(Deserialize)]
pub struct Toolchain {
    #[serde(rename = "GOROOT")]
    pub root: PathBuf,
    #[serde(rename = "GOVERSION")]
    version: String,
    #[serde(rename = "GOFLAGS")]
    pub flags: String,
}

impl Toolchain {
    /// Asks `go` in the directory `dir`.
    pub fn find(go: &Path, dir: &Path) -> Result<Toolchain> {
        let output = Command::new(go)
            .args(["env", "-json", "GOROOT", "GOVERSION", "GOFLAGS"])
            .current_dir(dir)
            .output()
            .with_context(|| format!("{} (install Go, or use --go)", go.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} env: {}",
            go.display(),
            said.trim()
        );
        let found: Toolchain = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} env: unexpected output", go.display()))?;
        ensure!(
            !found.version.is_empty(),
            "{} env: no GOVERSION",
            go.display()
        );
        Ok(found)
    }

    /// The version, for example `go1.27.3`, without what GOEXPERIMENT adds to it.
    pub fn version(&self) -> &str {
        self.version.split_whitespace().next().unwrap_or("go")
    }

    /// Whether `go vet` can read files that an overlay adds. Up to Go 1.23 it looks for them on
    /// the disk.
    pub fn vet_reads_overlays(&self) -> bool {
        let minor = self
            .version()
            .strip_prefix("go1.")
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|minor| minor.parse::<u32>().ok());
        minor.is_none_or(|minor| minor >= 24)
    }

    /// The value of GOTOOLCHAIN that keeps this version.
    pub fn pin(&self) -> &str {
        match self.version() {
            released if released.starts_with("go1.") => released,
            _ => "local",
        }
    }

    pub fn src(&self) -> PathBuf {
        self.root.join("src")
    }

    /// A command that runs this version, whatever a go.mod selects.
    pub fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(self.root.join("bin").join("go"));
        command.current_dir(dir).env("GOTOOLCHAIN", "local");
        command
    }

    /// The overlay that GOFLAGS names.
    pub fn overlay_in_flags(&self) -> Option<OsString> {
        self.split_flags()
            .into_iter()
            .find_map(|flag| overlay_value(&flag).map(OsString::from))
    }

    /// GOFLAGS without an overlay.
    pub fn other_flags(&self) -> Vec<String> {
        let mut flags = self.split_flags();
        flags.retain(|flag| overlay_value(flag).is_none());
        flags
    }

    /// The flags in GOFLAGS, which may be quoted.
    fn split_flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut rest = self.flags.trim_start();
        while let Some(first) = rest.chars().next() {
            let (flag, after) = match first {
                '\'' | '"' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
                _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
            };
            flags.push(flag.to_owned());
            rest = after.trim_start();
        }
        flags
    }
}

/// The value of a flag `-overlay=VALUE`.
pub fn overlay_value(flag: &str) -> Option<&str> {
    flag.strip_prefix("--overlay=")
        .or_else(|| flag.strip_prefix("-overlay="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(version: &str, flags: &str) -> Toolchain {
        Toolchain {
            root: PathBuf::from("/go"),
            version: version.to_owned(),
            flags: flags.to_owned(),
        }
    }

    #[test]
    fn an_overlay_in_goflags_is_found() {
        let go = toolchain("go1.27.3", "-mod=mod '-overlay=/a b.json'  -v");
        assert_eq!(go.overlay_in_flags(), Some(OsString::from("/a b.json")));
        assert_eq!(go.other_flags(), ["-mod=mod", "-v"]);
        assert_eq!(toolchain("go1.27.3", "").overlay_in_flags(), None);
    }

    #[test]
    fn vet_reads_overlays_from_go_1_24_on() {
        for (version, reads) in [
            ("go1.22.10", false),
            ("go1.23rc1", false),
            ("go1.24", true),
            ("devel go1.28-abc", true),
        ] {
            assert_eq!(
                toolchain(version, "").vet_reads_overlays(),
                reads,
                "{version}"
            );
        }
    }

    #[test]
    fn a_released_version_can_be_pinned() {
        assert_eq!(toolchain("go1.27.3 X:nodwarf5", "").pin(), "go1.27.3");
        assert_eq!(toolchain("devel go1.28-abc", "").pin(), "local");
    }
}
