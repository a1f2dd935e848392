//! The libraries and the benchmark programs for the tests of `aioshim measure`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Cargo's directory for the files of this test.
const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Builds the libraries and the benchmark programs, once.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        // Two test programs may run at the same time.
        let dir = Path::new(TMP).join(format!("bench.{}", env!("CARGO_CRATE_NAME")));
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/build");
        let status = Command::new(build).arg(&dir).status().expect("it starts");
        assert!(status.success(), "bench/build: {status}");
        dir
    })
}

/// An empty directory on a real disk; /tmp may be a tmpfs, where O_DIRECT has no effect.
pub fn scratch() -> TempDir {
    TempDir::new_in(TMP).expect("a directory")
}

/// `aioshim measure` with its files and results in `dir`.
pub fn measure_in(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aioshim"));
    command
        .arg("measure")
        .arg("--programs")
        .arg(programs())
        .arg("--dir")
        .arg(dir)
        .arg("--json")
        .arg(dir);
    command
}
