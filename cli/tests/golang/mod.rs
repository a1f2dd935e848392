//! The versions of Go that the tests use, and programs built with them.
//!
//! `AIOSHIM_TEST_GO` names go commands, separated by colons; otherwise the tests use `go` on PATH.
//! What is built, and Go's cache, lies in the target directory.

#![allow(dead_code, reason = "each test program uses some of this")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

use testprogs::{skip, target_dir, workspace};

/// The 22 of the oldest version that can be converted, go1.22.
const OLDEST: u32 = 22;

/// One version of Go.
#[derive(Clone, Debug)]
pub struct Go {
    command: PathBuf,
    /// For example `go1.27.3`.
    pub version: String,
}

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// By the go command alone.
    Stock,
    /// By `aioshim go`.
    Converted,
    /// By `aioshim go`, with the race detector.
    Race,
}

/// All versions of Go. If there is none, the calling test is skipped.
pub fn versions() -> Vec<Go> {
    static FOUND: OnceLock<Vec<Go>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match std::env::var_os("AIOSHIM_TEST_GO") {
        Some(commands) => std::env::split_paths(&commands)
            .map(|command| {
                let found = Go::find(&command);
                found.unwrap_or_else(|| panic!("AIOSHIM_TEST_GO: {}", command.display()))
            })
            .collect(),
        None => Go::find(Path::new("go")).into_iter().collect(),
    });
    let supported = |go: &&Go| go.minor() >= OLDEST;
    if found.is_empty() {
        skip("go is not on PATH, and AIOSHIM_TEST_GO does not name a go command");
    } else if let Some(old) = found.iter().find(|go| !supported(go)) {
        skip(&format!("{} is older than go1.{OLDEST}", old.version));
    }
    found.iter().filter(supported).cloned().collect()
}

/// The newest of all versions. If there is none, the calling test is skipped.
pub fn newest() -> Option<Go> {
    versions().into_iter().max_by_key(Go::minor)
}

impl Go {
    fn find(command: &Path) -> Option<Go> {
        let output = settings(&mut Command::new(command))
            .args(["env", "GOVERSION"])
            .output()
            .ok()?;
        let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !version.is_empty()).then(|| Go {
            command: command.to_owned(),
            version,
        })
    }

    /// The 27 of `go1.27.3`.
    pub fn minor(&self) -> u32 {
        let rest = self.version.strip_prefix("go1.").unwrap_or("0");
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The go command.
    pub fn stock(&self) -> Command {
        let mut command = Command::new(&self.command);
        settings(&mut command);
        command
    }

    /// `aioshim go VERB`.
    pub fn aioshim(&self, verb: &str) -> Command {
        aioshim_go(&self.command, verb)
    }

    /// Builds the package in a folder of `go/`, once, and returns the program.
    pub fn program(&self, folder: &str, flavor: Flavor) -> PathBuf {
        static BUILT: OnceLock<Mutex<HashMap<PathBuf, ()>>> = OnceLock::new();
        let name = folder.replace('/', "-");
        let program = scratch_root()
            .join(format!("{}-{flavor:?}", self.version))
            .join(name);
        let mut built = BUILT.get_or_init(Mutex::default).lock().expect("no panic");
        if built.insert(program.clone(), ()).is_none() {
            let mut command = match flavor {
                Flavor::Stock => self.stock(),
                _ => self.aioshim("build"),
            };
            match flavor {
                Flavor::Stock => command.arg("build"),
                Flavor::Converted => &mut command,
                // The race detector needs cgo.
                Flavor::Race => command.arg("-race").env("CGO_ENABLED", "1"),
            };
            command.arg("-o").arg(&program).arg(".");
            command.current_dir(source(folder));
            succeed(&mut command);
        }
        program
    }
}

/// `aioshim go VERB` for a go command.
pub fn aioshim_go(go: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aioshim"));
    settings(&mut command);
    command.args([OsStr::new("go"), OsStr::new("--go"), go.as_os_str()]);
    command.arg(verb);
    command
}

/// A folder of `go/`.
pub fn source(folder: &str) -> PathBuf {
    workspace().join("go").join(folder)
}

fn scratch_root() -> PathBuf {
    target_dir().join("testprogs").join("go")
}

/// The directory in which the tests keep overlays.
pub fn overlay_cache() -> PathBuf {
    scratch_root().join("xdg")
}

/// Sets the variables of a build, independent of the user's.
fn settings(command: &mut Command) -> &mut Command {
    for name in [
        "AIOSHIM",
        "AIOSHIM_ENGINE",
        "AIOSHIM_STATS",
        "AIOSHIM_OUT",
        "GOROOT",
    ] {
        command.env_remove(name);
    }
    command
        .env("GOCACHE", scratch_root().join("cache"))
        .env("XDG_CACHE_HOME", overlay_cache())
        .env("CGO_ENABLED", "0")
        .env("GOENV", "off")
        .env("GOFLAGS", "")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
}

/// Runs a command, which must succeed. Returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let (stdout, stderr) = texts(&output);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}{stderr}",
        output.status
    );
    stdout
}

/// Runs a command, which must fail. Returns its standard error.
pub fn fail(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let (stdout, stderr) = texts(&output);
    assert!(!output.status.success(), "{command:?}\n{stdout}{stderr}");
    stderr
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
