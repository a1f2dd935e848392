//! Root directories of other Debian releases. A program in one of them runs as on a machine with
//! that release.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::libraries::workspace;
use crate::run::{Outcome, Run};
use crate::scratch::Scratch;
use crate::tool::{Tool, skip};

/// The packages that debootstrap installs in addition to the minimal system, to compile C programs.
const PACKAGES: &str = "gcc,libc6-dev";

/// How often a release is downloaded if the connection is lost.
const DOWNLOADS: u32 = 3;

/// On an idle machine, creating a root and building in it take a minute each.
const LIMIT: Duration = Duration::from_secs(900);

/// Namespaces that end with the command, so no mount and no process outlives it.
const NAMESPACES: [&str; 5] = ["--mount", "--pid", "--ipc", "--fork", "--kill-child"];

/// Cargo's target directory inside the root.
const TARGET: &str = "/build";

/// The root directory of a Debian release. This workspace and the Rust toolchain are mounted in it
/// under their usual paths.
#[derive(Debug)]
pub struct Distribution {
    root: Scratch,
    unshare: Tool,
    toolchain: PathBuf,
    cargo_home: PathBuf,
}

impl Distribution {
    /// Creates the root of the release `suite` with debootstrap. If that is not possible, skips and
    /// returns None.
    pub fn debian(suite: &str) -> Option<Distribution> {
        let unshare = Tool::find("unshare")?;
        let debootstrap = Tool::find("debootstrap")?;
        let allowed = command(unshare.path()).args(NAMESPACES).arg("true").run();
        if !allowed.status.success() {
            skip(&format!(
                "no namespaces of its own: {}",
                allowed.error_text().trim()
            ));
            return None;
        }
        let toolchain = toolchain()?;
        let cargo_home = cargo_home()?;
        let root = Scratch::new();
        let make = || {
            command(unshare.path())
                .args(NAMESPACES)
                .arg(debootstrap.path())
                // The archive is fetched over plain HTTP, so its signatures must be checked.
                .args(["--force-check-gpg", "--variant=minbase"])
                .arg(format!("--include={PACKAGES}"))
                .arg(suite)
                .arg(root.path())
                .args(mirror())
                .run()
        };
        // A lost connection must not fail the test. The packages that have arrived are kept.
        for downloads_left in (0..DOWNLOADS).rev() {
            let made = make();
            if made.status.success() {
                break;
            }
            let text = made.text() + &made.error_text();
            let why = text
                .lines()
                .rfind(|line| line.starts_with("E: "))
                .unwrap_or("it failed");
            if downloads_left == 0 || !why.contains("download") {
                skip(&format!("no Debian {suite}: debootstrap: {why}"));
                return None;
            }
        }
        let distribution = Distribution {
            root,
            unshare,
            toolchain,
            cargo_home,
        };
        Some(distribution)
    }

    /// The directory for libraries of cargo's dev profile, as a path inside the root.
    pub fn libdir(&self) -> PathBuf {
        Path::new(TARGET).join("debug")
    }

    /// Runs `cargo` in the root, in this workspace, without the network.
    pub fn cargo(&self, args: &[&str]) -> Outcome {
        let program = self.toolchain.join("bin/cargo");
        let args = args.iter().map(OsString::from);
        self.run(&[], [program.into_os_string()].into_iter().chain(args))
    }

    /// Runs `command` in the root, in this workspace, with `variables` in its environment.
    pub fn run(
        &self,
        variables: &[(&str, &str)],
        words: impl IntoIterator<Item = OsString>,
    ) -> Outcome {
        let bin = self.toolchain.join("bin");
        let directories = [workspace(), &self.toolchain, &self.cargo_home];
        let no_skip = std::env::var_os("AIOSHIM_TEST_NO_SKIP").unwrap_or_default();
        command(self.unshare.path())
            .args(NAMESPACES)
            .args([
                "sh",
                "-c",
                include_str!("distribution.sh"),
                "distribution.sh",
            ])
            .arg(self.root.path())
            .args(directories)
            .args(["--", "env", "-i", "-C"])
            .arg(workspace())
            .arg(assigned(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()),
            ))
            .arg(assigned("CARGO_HOME", &self.cargo_home))
            .arg(assigned("CARGO_TARGET_DIR", TARGET))
            .args([
                "HOME=/root",
                "CARGO_NET_OFFLINE=true",
                "CARGO_INCREMENTAL=0",
            ])
            .arg(assigned("AIOSHIM_LIBDIR", self.libdir()))
            .arg(assigned("AIOSHIM_TEST_NO_SKIP", no_skip))
            .args(variables.iter().map(|(name, value)| assigned(name, value)))
            .args(words)
            .run()
    }
}

fn command(program: &Path) -> Run {
    Run::new(program).hang_limit(LIMIT)
}

fn assigned(name: &str, value: impl Into<OsString>) -> OsString {
    let mut word = OsString::from(format!("{name}="));
    word.push(value.into());
    word
}

/// The directory of the Rust toolchain. Skips if the toolchain is installed into system
/// directories, because those cannot be mounted into another root.
fn toolchain() -> Option<PathBuf> {
    let asked = Command::new("rustc").args(["--print", "sysroot"]).output();
    let answer = asked.map(|asked| asked.stdout).unwrap_or_default();
    let directory = PathBuf::from(String::from_utf8_lossy(&answer).trim());
    if directory == Path::new("/usr") || !directory.join("bin/cargo").exists() {
        skip(&format!(
            "the Rust toolchain {} has no directory of its own",
            directory.display()
        ));
        return None;
    }
    Some(directory)
}

/// Cargo's home directory, which contains the sources of the dependencies.
fn cargo_home() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let found = named.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let found = found.filter(|directory| directory.is_dir());
    if found.is_none() {
        skip("cargo has no home directory: CARGO_HOME and HOME name none");
    }
    found
}

/// The Debian mirror that apt uses on this machine. None if apt uses no Debian mirror; debootstrap
/// then uses its default.
fn mirror() -> Option<String> {
    let asked = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .args(["Created-By: Packages", "Origin: Debian", "Label: Debian"])
        .output()
        .ok()?;
    let text = String::from_utf8(asked.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}
