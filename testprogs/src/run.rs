//! Runs one program until it exits and returns all of its output.
//!
//! The program does not inherit AIOSHIM_*, FIBER_* or LD_PRELOAD from the caller: a run has only
//! the variables that its builder sets. Of the descriptors it inherits only the standard streams.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use crate::libraries::libraries;

/// Far longer than any test takes: a guard against hangs, not a measurement.
const HANG_LIMIT: Duration = Duration::from_secs(60);

/// Variables of the dynamic loader. Cargo adds its build directories to LD_LIBRARY_PATH, where they
/// would take precedence over a program's RUNPATH.
const LOADER: [&[u8]; 2] = [b"LD_PRELOAD", b"LD_LIBRARY_PATH"];

/// A program that starts another program. It accepts `-E NAME=VALUE` for the environment of that
/// program only, so the launcher itself is not preloaded.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Launcher {
    /// A launcher without options.
    pub fn new(program: impl Into<PathBuf>) -> Launcher {
        Launcher {
            program: program.into(),
            args: Vec::new(),
        }
    }

    /// Adds an option for the launcher itself.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Launcher {
        self.args.push(arg.into());
        self
    }
}

/// Builder for one run of a program.
#[derive(Clone, Debug)]
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    preload: Vec<PathBuf>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    dir: Option<PathBuf>,
    launcher: Option<Launcher>,
    hang_limit: Duration,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit status or signal.
    pub status: ExitStatus,
    /// Time from the start of the process until its exit.
    pub elapsed: Duration,
    /// The command as typed in a shell.
    pub command: String,
}

impl Run {
    /// A run of `program` with no arguments, an empty standard input and no preload.
    pub fn new(program: impl Into<PathBuf>) -> Run {
        Run {
            program: program.into(),
            args: Vec::new(),
            preload: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            dir: None,
            launcher: None,
            hang_limit: HANG_LIMIT,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Run {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Run {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Preloads libaioshim.so if `yes`.
    pub fn preload(self, yes: bool) -> Run {
        if yes {
            self.preload_also(&libraries().aioshim)
        } else {
            self
        }
    }

    /// Preloads `library` after the ones added before.
    pub fn preload_also(mut self, library: &Path) -> Run {
        self.preload.push(library.to_owned());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Run {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = bytes.into();
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Run {
        self.dir = Some(dir.into());
        self
    }

    /// Starts the program through `launcher`.
    pub fn under(mut self, launcher: Launcher) -> Run {
        self.launcher = Some(launcher);
        self
    }

    /// Sets the hang limit; the default is one minute.
    pub fn hang_limit(mut self, limit: Duration) -> Run {
        self.hang_limit = limit;
        self
    }

    /// The run as a [`Command`] whose streams are not set.
    pub fn command(&self) -> Command {
        withhold_inherited_descriptors();
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for (name, _) in std::env::vars_os() {
            let bytes = name.as_bytes();
            if bytes.starts_with(b"AIOSHIM")
                || bytes.starts_with(b"FIBER_")
                || LOADER.contains(&bytes)
            {
                command.env_remove(name);
            }
        }
        if self.launcher.is_none() {
            command.envs(self.variables());
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Runs the program until it exits.
    ///
    /// # Panics
    /// When the program cannot be started, or hangs. A program that hangs is killed, and the
    /// message contains its output.
    pub fn run(&self) -> Outcome {
        let line = self.line();
        let mut command = self.command();
        // The program gets its own process group, so its children can be killed with it.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let start = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (status, elapsed, stdout, stderr) = thread::scope(|scope| {
            scope.spawn(|| {
                // The program need not read all of its input.
                let _ = stdin.expect("piped").write_all(&self.stdin);
            });
            let stdout = scope.spawn(|| drain(stdout.expect("piped")));
            let stderr = scope.spawn(|| drain(stderr.expect("piped")));
            let status = wait(&mut child, start, self.hang_limit);
            let elapsed = start.elapsed();
            (
                status,
                elapsed,
                stdout.join().expect("drain"),
                stderr.join().expect("drain"),
            )
        });
        match status {
            Ok(status) => Outcome {
                stdout,
                stderr,
                status,
                elapsed,
                command: line,
            },
            Err(threads) => panic!(
                "hangs (no end after {:?}): {line}\n--- its threads\n{threads}--- stdout\n{}\n--- \
                stderr\n{}",
                self.hang_limit,
                String::from_utf8_lossy(&stdout),
                String::from_utf8_lossy(&stderr)
            ),
        }
    }

    /// Runs the program and returns its standard output as text.
    ///
    /// # Panics
    /// As [`Self::run`], and when the program fails.
    pub fn output(&self) -> String {
        self.run().success().text()
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.env.clone();
        if !self.preload.is_empty() {
            let paths: Vec<&OsStr> = self.preload.iter().map(|path| path.as_os_str()).collect();
            variables.push(("LD_PRELOAD".into(), paths.join(OsStr::new(":"))));
        }
        variables
    }

    fn words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if let Some(launcher) = &self.launcher {
            words.push(launcher.program.clone().into());
            words.extend(launcher.args.iter().cloned());
            for (name, value) in self.variables() {
                words.extend(["-E".into(), [name, value].join(OsStr::new("="))]);
            }
        }
        words.push(self.program.clone().into());
        words.extend(self.args.iter().cloned());
        words
    }

    fn line(&self) -> String {
        let mut line = String::new();
        if let Some(dir) = &self.dir {
            let _ = write!(line, "cd {} && ", dir.display());
        }
        if self.launcher.is_none() {
            for (name, value) in self.variables() {
                let _ = write!(line, "{}={} ", name.display(), quoted(&value));
            }
        }
        let words: Vec<String> = self.words().iter().map(|word| quoted(word)).collect();
        line + &words.join(" ")
    }
}

impl Outcome {
    /// Returns the outcome if the program exited with 0.
    ///
    /// # Panics
    /// When it did not; the message contains all of its output.
    #[track_caller]
    pub fn success(self) -> Outcome {
        assert!(self.status.success(), "failed: {}", self.report());
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The command, its exit status and all of its output, to be shown when a test fails.
    pub fn report(&self) -> String {
        let end = match self.status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit {}", self.status.code().unwrap_or(-1)),
        };
        format!(
            "{}\n{end}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.text(),
            self.error_text()
        )
    }
}

/// Keeps the descriptors that this process has inherited out of the programs it starts. Everything
/// that this process opens itself is closed on exec anyway.
fn withhold_inherited_descriptors() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let entries = std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd is readable");
        for entry in entries.flatten() {
            let number: Option<libc::c_int> = entry.file_name().to_string_lossy().parse().ok();
            if let Some(number) = number.filter(|number| *number > 2) {
                // SAFETY: the call takes no memory. It fails if the descriptor is closed by now.
                unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
        }
    });
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,%+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn drain(mut pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Output from before a read error is still worth showing.
    let _ = pipe.read_to_end(&mut bytes);
    bytes
}

/// Waits for `child` and returns its exit status. After the limit, kills its process group and
/// returns the state of its threads as the error.
fn wait(child: &mut Child, start: Instant, limit: Duration) -> Result<ExitStatus, String> {
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Ok(status);
        }
        if start.elapsed() > limit {
            let threads = threads(child.id());
            let group = libc::pid_t::try_from(child.id()).expect("a process id");
            // SAFETY: the call takes no memory. The group was created for this child, which is not
            // reaped yet, so the number cannot belong to another group.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            let _ = child.wait();
            return Err(threads);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// The wait channel and system call of each thread of process `pid`, one line per thread.
fn threads(pid: u32) -> String {
    let mut lines = String::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |name| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let (comm, wchan, syscall) = (read("comm"), read("wchan"), read("syscall"));
        let _ = writeln!(lines, "{} {wchan} syscall {}", comm.trim(), syscall.trim());
    }
    lines
}
