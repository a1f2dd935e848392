//! Locates `libfiber.so` and `libaioshim.so`, and builds them first if necessary.
//!
//! Each process runs cargo once. Cargo's own lock serialises several test processes, and they lose
//! no time if the build is up to date.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// The two shared objects under test, and the directories of their headers.
#[derive(Debug)]
pub struct Libraries {
    /// `libfiber.so`; its directory is the rpath of every program.
    pub fiber: PathBuf,
    /// `libaioshim.so`, to be preloaded.
    pub aioshim: PathBuf,
    /// Directories of `fiber.h` and `aioshim.h`.
    pub include: [PathBuf; 2],
}

/// The release build of the libraries. If `AIOSHIM_LIBDIR` names a directory, both are taken from
/// there and nothing is built.
///
/// # Panics
/// When they cannot be built or found, because nothing can be tested without them.
pub fn libraries() -> &'static Libraries {
    static LIBRARIES: OnceLock<Libraries> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let found = match std::env::var_os("AIOSHIM_LIBDIR") {
            Some(dir) => installed(Path::new(&dir)),
            None => build(),
        };
        found.unwrap_or_else(|e| panic!("libfiber.so and libaioshim.so: {e:#}"))
    })
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
}

/// The directory of the C sources.
pub fn c_sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("c")
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, or `target` in the workspace if that is not set.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

fn with_headers(fiber: PathBuf, aioshim: PathBuf) -> Libraries {
    let include = ["fiber/include", "shim/include"].map(|dir| workspace().join(dir));
    Libraries {
        fiber,
        aioshim,
        include,
    }
}

fn installed(dir: &Path) -> Result<Libraries> {
    let [fiber, aioshim] = ["libfiber.so", "libaioshim.so"].map(|name| {
        let path = dir.join(name);
        path.canonicalize()
            .with_context(|| format!("AIOSHIM_LIBDIR: {}", path.display()))
    });
    Ok(with_headers(fiber?, aioshim?))
}

fn build() -> Result<Libraries> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args(["build", "--release", "-p", "fiber", "-p", "aioshim"])
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(target_dir())
        .current_dir(workspace())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{}", cargo.display()))?;
    if !output.status.success() {
        bail!(
            "cargo build: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let messages = String::from_utf8(output.stdout)?;
    Ok(with_headers(
        artefact(&messages, "libfiber.so")?,
        artefact(&messages, "libaioshim.so")?,
    ))
}

/// Finds the file called `name` among the artefacts that cargo reports, one JSON object per line.
fn artefact(messages: &str, name: &str) -> Result<PathBuf> {
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let files = message["filenames"].as_array().into_iter().flatten();
        for file in files.filter_map(|file| file.as_str().map(Path::new)) {
            if file.file_name().is_some_and(|n| n == name) {
                ensure!(
                    file.exists(),
                    "{}: reported by cargo, but missing",
                    file.display()
                );
                return Ok(file.to_owned());
            }
        }
    }
    bail!("cargo built no {name}")
}
