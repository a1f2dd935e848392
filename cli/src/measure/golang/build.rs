//! Builds the benchmark programs, with the overlay and without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// One program, built in both ways.
pub struct Built {
    pub stock: PathBuf,
    pub converted: PathBuf,
}

/// What both kinds of programs consist of.
pub const MEASURED: (&str, &str) = (
    "measured.go",
    include_str!("../../../../go/bench/measured.go"),
);
const FILES: [(&str, &str); 3] = [
    MEASURED,
    ("main.go", include_str!("../../../../go/bench/main.go")),
    ("http.go", include_str!("../../../../go/bench/http.go")),
];

/// Builds the program that reads files.
pub fn files(dir: &Path) -> Result<Built> {
    build(dir, &FILES, &[])
}

/// The version of the go command on PATH.
pub fn version() -> Result<String> {
    let mut command = Command::new("go");
    go(command.args(["env", "GOVERSION"]))
}

/// Writes the sources of a program to `dir` and builds it with these variables.
pub fn build(dir: &Path, sources: &[(&str, &str)], variables: &[(&str, &Path)]) -> Result<Built> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    std::fs::write(dir.join("go.mod"), "module bench\n\ngo 1.22\n")?;
    for (name, text) in sources {
        std::fs::write(dir.join(name), text)?;
    }
    let aioshim = std::env::current_exe().context("cannot find this command")?;
    for (program, first, output) in [
        (Path::new("go"), None, "stock"),
        (&aioshim, Some("go"), "converted"),
    ] {
        let mut command = Command::new(program);
        command.args(first).args(["build", "-o", output, "."]);
        command.current_dir(dir).envs(variables.iter().copied());
        go(&mut command)?;
    }
    Ok(Built {
        stock: dir.join("stock"),
        converted: dir.join("converted"),
    })
}

/// Runs a go command, and returns its output.
fn go(command: &mut Command) -> Result<String> {
    let output = command
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .output()
        .context("go is not on PATH")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    ensure!(status.success(), "{command:?} failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
