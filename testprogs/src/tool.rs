//! Tools that a test may need, and skipping the tests that lack one.
//!
//! A skip always prints its reason. With `AIOSHIM_TEST_NO_SKIP=1`, as in CI, a skip is a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::compile::{Flavor, program};
use crate::run::Launcher;

/// An installed program.
#[derive(Clone, Debug)]
pub struct Tool {
    path: PathBuf,
}

/// Reports that the calling test is skipped, and why.
///
/// # Panics
/// With `AIOSHIM_TEST_NO_SKIP=1`.
pub fn skip(reason: &str) {
    if std::env::var_os("AIOSHIM_TEST_NO_SKIP").is_some_and(|v| v == "1") {
        panic!("skip: {reason} (AIOSHIM_TEST_NO_SKIP=1)");
    }
    eprintln!("skip: {reason}");
}

/// The number in the environment variable `name`, or `default` if it is not set. Such variables
/// scale how much a test does.
///
/// # Panics
/// When it is not a number.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: not a number"))
    })
}

impl Tool {
    /// Finds the program called `name` on PATH; skips if there is none.
    pub fn find(name: &str) -> Option<Tool> {
        let found = Tool::search(name);
        if found.is_none() {
            skip(&format!("{name} is not installed"));
        }
        found
    }

    /// Finds strace; skips if it is not installed or not allowed to trace.
    pub fn strace() -> Option<Tool> {
        let tool = Tool::find("strace")?;
        let traced = Command::new(&tool.path)
            .args(["-o", "/dev/null", "true"])
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success());
        if !traced {
            skip("strace may not trace here");
            return None;
        }
        Some(tool)
    }

    /// Finds a shared library of the system by its file name; skips if there is none.
    pub fn system_library(name: &str) -> Option<PathBuf> {
        let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let dirs = [multiarch.as_str(), "/usr/lib64", "/usr/lib", "/lib"];
        let found = dirs
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|path| path.exists());
        if found.is_none() {
            skip(&format!("{name} is not installed"));
        }
        found
    }

    /// The path of the program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn search(name: &str) -> Option<Tool> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
            .map(|path| Tool { path })
    }
}

/// The system calls of io_uring and Linux AIO that a seccomp filter refuses, with the errors it
/// returns, as `CALL=ERROR` arguments of `refuse.c`.
#[derive(Clone, Copy, Debug)]
pub struct Refusal(&'static [&'static str]);

impl Refusal {
    /// Each io_uring call with each error, and combinations that also refuse Linux AIO.
    pub const ALL: [Refusal; 15] = [
        Refusal(&["setup=EPERM"]),
        Refusal(&["setup=ENOSYS"]),
        Refusal(&["setup=ENOMEM"]),
        Refusal(&["enter=EPERM"]),
        Refusal(&["enter=ENOSYS"]),
        Refusal(&["enter=ENOMEM"]),
        Refusal(&["register=EPERM"]),
        Refusal(&["register=ENOSYS"]),
        Refusal(&["register=ENOMEM"]),
        Refusal(&["setup=EPERM", "io_setup=EPERM"]),
        Refusal(&["setup=ENOSYS", "io_setup=ENOSYS"]),
        Refusal(&["setup=ENOMEM", "io_setup=EAGAIN"]),
        Refusal(&["setup=EPERM", "io_submit=EPERM"]),
        Refusal(&["enter=ENOSYS", "io_submit=ENOSYS"]),
        Refusal(&["setup=EPERM", "contexts=EAGAIN"]),
    ];

    /// As if all contexts of Linux AIO were in use (fs.aio-max-nr).
    pub const CONTEXTS: Refusal = Refusal(&["contexts=EAGAIN"]);

    /// The launcher that installs the filter; skips if filters are not allowed.
    pub fn launcher(self) -> Option<Launcher> {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        let refuse = program("environment/refuse", Flavor::Plain);
        let allowed = ALLOWED.get_or_init(|| {
            let allowed = Command::new(&refuse)
                .args(["setup=EPERM", "true"])
                .output()
                .is_ok_and(|o| o.status.success());
            if !allowed {
                skip("seccomp filters are not allowed here");
            }
            allowed
        });
        let launcher = Launcher::new(&refuse);
        allowed.then(|| {
            self.0
                .iter()
                .fold(launcher, |launcher, word| launcher.arg(*word))
        })
    }

    /// The name of the engine that remains.
    pub fn engine(self) -> &'static str {
        match self.0 {
            [one] if one.starts_with("register") => "io_uring",
            [_] => "linux-aio",
            [.., last] if last.starts_with("contexts") => "linux-aio",
            _ => "threads",
        }
    }
}
