//! The environment of a measurement: the head of the report, and part of every JSON file.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::Bench;
use super::fio::Fio;

/// The machine, its software and the engine that the shim chose.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Environment {
    date: String,
    kernel: String,
    glibc: String,
    cpu: String,
    cores: usize,
    memory_mib: u64,
    /// The load average of the last minute before the measurement, which shows other activity.
    load: String,
    dir: PathBuf,
    filesystem: String,
    device: String,
    /// The value of the sysctl kernel.io_uring_disabled.
    io_uring_disabled: Option<String>,
    memlock_limit: Option<String>,
    /// The engine that the shim reports, or `None` if there is no engine or no shim.
    engine: Option<String>,
    aioshim: String,
    compiler: String,
    cflags: Vec<String>,
    fio: Option<String>,
    notes: Vec<String>,
}

impl Environment {
    /// Collects the data. `notes` are the notes that exist already.
    pub fn gather(bench: &Bench, mut notes: Vec<String>) -> Environment {
        let uname = rustix::system::uname();
        let text = |part: &CStr| part.to_string_lossy().into_owned();
        let (filesystem, device) = mount_of(&bench.dir);
        if let Some(engine) = bench.engine.as_deref().filter(|e| *e != "io_uring") {
            notes.push(format!("io_uring is not in use: the shim chose {engine}"));
        }
        if cfg!(debug_assertions) {
            notes.push("this aioshim command is a debug build; the libraries are not".to_owned());
        }
        Environment {
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            kernel: format!("{} {}", text(uname.release()), text(uname.machine())),
            glibc: glibc(),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_kib() / 1024,
            load: first_word("/proc/loadavg").unwrap_or_default(),
            dir: bench.dir.clone(),
            filesystem,
            device,
            io_uring_disabled: first_word("/proc/sys/kernel/io_uring_disabled"),
            memlock_limit: memlock(),
            engine: bench.engine.clone(),
            aioshim: env!("CARGO_PKG_VERSION").to_owned(),
            compiler: bench.programs.compiler.clone(),
            cflags: bench.programs.flags.clone(),
            fio: Fio::find().map(|fio| fio.version),
            notes,
        }
    }

    /// The type of the file system of the directory for files.
    pub fn filesystem(&self) -> &str {
        &self.filesystem
    }
}

impl Environment {
    /// The time at which it was gathered.
    pub fn date(&self) -> &str {
        &self.date
    }

    /// The machine in one line.
    pub fn in_words(&self) -> String {
        let engine = self.engine.as_deref().unwrap_or("none");
        format!(
            "{}, {} processors, {} MiB of memory, Linux {}, glibc {}, {} on {}, aioshim {} with \
            the engine {engine}, {}",
            self.cpu,
            self.cores,
            self.memory_mib,
            self.kernel,
            self.glibc,
            self.filesystem,
            self.device,
            self.aioshim,
            self.date
        )
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = self.engine.as_deref().unwrap_or("none");
        writeln!(
            f,
            "{}, {} cores, {} MiB, load {}",
            self.cpu, self.cores, self.memory_mib, self.load
        )?;
        writeln!(
            f,
            "Linux {}, glibc {}, {} on {}, engine {engine}, {}",
            self.kernel, self.glibc, self.filesystem, self.device, self.date
        )?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// Returns the first line that a program prints, or an empty string.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn glibc() -> String {
    // SAFETY: the function takes no arguments and returns a string that lives as long as libc.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_string_lossy().into_owned()
}

fn first_word(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

/// Returns the first `name: value` of a file in /proc.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_kib() -> u64 {
    let total = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    total
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn memlock() -> Option<String> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("Max locked memory"))?;
    line.split_whitespace().nth(3).map(str::to_owned)
}

/// Returns the file system type and the device of the mount that contains `dir`. This is the mount
/// with the longest mount point above `dir`.
fn mount_of(dir: &Path) -> (String, String) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?;
        let mut kind = kind.split(' ');
        Some((point, kind.next()?, kind.next()?))
    });
    let above = mounts.filter(|(point, ..)| dir.starts_with(point));
    match above.max_by_key(|(point, ..)| point.len()) {
        Some((_, filesystem, device)) => (filesystem.to_owned(), device.to_owned()),
        None => ("unknown".to_owned(), "unknown".to_owned()),
    }
}
