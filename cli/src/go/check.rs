//! `aioshim go check`: whether the overlay applies to the Go here, builds, and works.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::overlay;
use super::toolchain::Toolchain;

/// The program that is built and run: it reads a file and compares the bytes.
const SELF_TEST: &str = include_str!("../../../go/selftest/main.go");

/// The engines that the self-test tries.
const ENGINES: [&str; 5] = ["auto", "uring", "aio", "block", "sync"];

/// Checks `go` and prints a line for each step.
pub fn run(go: &Toolchain, dir: &Path) -> Result<()> {
    println!("{} in {}", go.version(), go.root.display());
    let overlay = overlay::make(go, None, dir)?;
    println!("overlay    {}", overlay.display());
    warn_of_another_overlay(go, &overlay);

    // Beside the user's files, because /tmp may have no O_DIRECT.
    let folder = Folder::new(dir)?;
    std::fs::write(folder.0.join("go.mod"), "module selftest\n\ngo 1.22\n")?;
    std::fs::write(folder.0.join("main.go"), SELF_TEST)?;
    let output = go
        .command(&folder.0)
        .args(["build", "-o", "selftest"])
        .arg(format!("-overlay={}", overlay.display()))
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .output()
        .with_context(|| go.root.join("bin/go").display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the self-test does not build:\n{said}"
    );
    let program = super::inspect::inspect(&folder.0.join("selftest"))?;
    ensure!(
        matches!(&program, super::inspect::Program::Converted { go: made_for, .. }
            if made_for == go.version()),
        "the self-test was built, but without the overlay: {program}"
    );
    println!("build      {program}");
    for engine in ENGINES {
        let output = std::process::Command::new(folder.0.join("selftest"))
            .current_dir(&folder.0)
            .env_remove("AIOSHIM")
            .env_remove("AIOSHIM_OUT")
            .env("AIOSHIM_ENGINE", engine)
            .env("AIOSHIM_STATS", "1")
            .output()
            .context("the self-test")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "the self-test failed with AIOSHIM_ENGINE={engine}:\n{said}"
        );
        let used = said
            .split_whitespace()
            .find_map(|word| word.strip_prefix("engine="));
        println!(
            "self-test  AIOSHIM_ENGINE={engine}: ok, engine {}",
            used.unwrap_or("unknown")
        );
    }
    Ok(())
}

/// Go ignores an overlay that was made for another GOROOT, without a message.
fn warn_of_another_overlay(go: &Toolchain, ours: &Path) {
    let Some(flag) = go.overlay_in_flags() else {
        return;
    };
    if !overlay::same_go(Path::new(&flag), ours) {
        println!(
            "warning    GOFLAGS names {}, which is not for this Go: `go build` alone ignores it",
            Path::new(&flag).display()
        );
    }
}

/// A folder that is removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(dir: &Path) -> Result<Folder> {
        let path = dir.join(format!(".aioshim-check-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
