//! Root directories of other Debian releases, in which programs run as on a machine of that
//! release.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::libraries::workspace;
use crate::run::{Outcome, Run};
use crate::scratch::Scratch;
use crate::tool::{Tool, skip};

/// What debootstrap puts into a root besides the packages that every Debian has: what a C program
/// is compiled with.
const PACKAGES: &str = "gcc,libc6-dev";

/// Making a root and building in it take a minute each where nothing else runs.
const LIMIT: Duration = Duration::from_secs(900);

/// Namespaces that end with the command, so that no mount and no process outlives it.
const NAMESPACES: [&str; 5] = ["--mount", "--pid", "--ipc", "--fork", "--kill-child"];

/// Where cargo builds, in the root.
const TARGET: &str = "/build";

/// A Debian release's root directory, with this workspace and the Rust toolchain in their usual
/// places.
#[derive(Debug)]
pub struct Distribution {
    root: Scratch,
    unshare: Tool,
    toolchain: PathBuf,
    cargo_home: PathBuf,
}

impl Distribution {
    /// Makes the root of the release `suite` by debootstrap; None, with a skip, where that cannot
    /// be had.
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
        let made = command(unshare.path())
            .args(NAMESPACES)
            .arg(debootstrap.path())
            // Its archive is reached by plain HTTP.
            .args(["--force-check-gpg", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg(suite)
            .arg(root.path())
            .args(mirror())
            .run();
        if !made.status.success() {
            let text = made.text() + &made.error_text();
            let why = text
                .lines()
                .rfind(|line| line.starts_with("E: "))
                .unwrap_or("it failed");
            skip(&format!("no Debian {suite}: debootstrap: {why}"));
            return None;
        }
        let distribution = Distribution {
            root,
            unshare,
            toolchain,
            cargo_home,
        };
        Some(distribution)
    }

    /// Where cargo's dev profile puts the libraries, as a path in the root.
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

/// The directory of the Rust toolchain; a skip where it is spread over the system, and so not to be
/// had in another root.
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

/// Cargo's directory, which has the sources of the dependencies.
fn cargo_home() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let found = named.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let found = found.filter(|directory| directory.is_dir());
    if found.is_none() {
        skip("cargo has no home directory: CARGO_HOME and HOME name none");
    }
    found
}

/// The mirror of Debian that apt uses here; none where it uses no Debian's, and debootstrap takes
/// the one it knows.
fn mirror() -> Option<String> {
    let asked = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .args(["Created-By: Packages", "Origin: Debian", "Label: Debian"])
        .output()
        .ok()?;
    let text = String::from_utf8(asked.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}
