//! fio as the reference: it uses each kernel interface directly, with the same depth on the same
//! file.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::phase::Phase;
use super::programs::scrub;

/// An installed fio.
pub struct Fio {
    path: PathBuf,
    pub version: String,
}

/// A reader, in fio's terms.
#[derive(Clone, Copy)]
pub struct Job {
    pub engine: &'static str,
    /// The number of reads that one job has in flight.
    pub depth: u32,
    /// The number of threads, each with its own depth.
    pub jobs: u32,
    pub direct: bool,
}

impl Job {
    /// A job that uses io_uring from one thread.
    pub fn uring(direct: bool, depth: u32) -> Job {
        Job {
            engine: "io_uring",
            depth,
            jobs: 1,
            direct,
        }
    }
}

impl Fio {
    /// Finds fio on PATH.
    pub fn find() -> Option<Fio> {
        let path = std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join("fio"))
            .find(|path| path.is_file())?;
        let output = Command::new(&path).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Some(Fio { path, version })
    }

    /// Performs random reads for `ms` milliseconds. It does not time single reads (gtod_reduce),
    /// because our programs do not either.
    pub fn read(&self, file: &Path, job: Job, ms: u64) -> Result<Phase> {
        let Job {
            engine,
            depth,
            jobs,
            direct,
        } = job;
        let mut command = Command::new(&self.path);
        scrub(&mut command);
        command.args([
            "--name=measure",
            "--rw=randread",
            "--bs=4k",
            "--group_reporting",
            "--randrepeat=0",
        ]);
        command.args(["--gtod_reduce=1", "--time_based", "--output-format=json"]);
        command.args([format!("--ioengine={engine}"), format!("--iodepth={depth}")]);
        command.args([
            format!("--numjobs={jobs}"),
            format!("--thread={}", u8::from(jobs > 1)),
        ]);
        command.arg(format!("--runtime={ms}ms"));
        // Exclude the start from the measurement, as throughput.c does.
        command.arg(format!("--ramp_time={}ms", ms / 10));
        // Direct reads need not remember which blocks were read before. Cold reads must not read a
        // block twice.
        command.args(if direct {
            ["--direct=1", "--norandommap"]
        } else {
            ["--direct=0", "--invalidate=1"]
        });
        let mut name = OsString::from("--filename=");
        name.push(file);
        let mut child = command
            .arg(name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        let mut text = String::new();
        child
            .stdout
            .take()
            .context("stdout is not a pipe")?
            .read_to_string(&mut text)?;
        let (status, peak_rss_kib) = reap(child)?;
        ensure!(
            status == 0,
            "fio failed (status {status:#x}): {}",
            text.trim()
        );
        let phase = parse(&text).with_context(|| format!("unexpected output of fio: {text}"))?;
        Ok(Phase {
            peak_rss_kib,
            threads: u64::from(jobs),
            ..phase
        })
    }
}

/// Waits for `child`. Returns its status and the peak memory of the process or of its job,
/// whichever is larger.
fn reap(child: std::process::Child) -> Result<(i32, u64)> {
    let pid = libc::pid_t::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: rusage is a struct of integers, and all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to local variables that outlive the call. `child` has not been
    // waited for, so the pid is still its own.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    ensure!(reaped == pid, "fio: {}", std::io::Error::last_os_error());
    Ok((status, u64::try_from(usage.ru_maxrss)?))
}

/// Parses fio's output. fio reports CPU time as a percentage of the job's run time; with several
/// jobs, both are sums.
fn parse(text: &str) -> Result<Phase> {
    let json = &text[text.find('{').context("no JSON")?..];
    let json: Value = serde_json::from_str(json)?;
    let job = &json["jobs"][0];
    let number =
        |value: &Value, name: &str| value[name].as_f64().with_context(|| format!("no {name}"));
    let runtime_us = number(job, "job_runtime")? * 1000.0;
    let cpu_us = |name| number(job, name).map(|percent| percent / 100.0 * runtime_us);
    let read = &job["read"];
    ensure!(number(job, "error")? == 0.0, "error {}", job["error"]);
    Ok(Phase {
        operations: number(read, "total_ios")? as u64,
        ns: (number(read, "runtime")? * 1e6) as u64,
        user_us: cpu_us("usr_cpu")? as u64,
        system_us: cpu_us("sys_cpu")? as u64,
        voluntary: number(job, "ctx")? as u64,
        involuntary: 0,
        device_bytes: None,
        threads: 1,
        peak_rss_kib: 0,
        exhausted: false,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn per_cents_become_microseconds() {
        let text = r#"note: said before
            {"jobs": [{"error": 0, "job_runtime": 500, "usr_cpu": 4.0, "sys_cpu": 36.0, "ctx": 7,
                       "read": {"total_ios": 50000, "runtime": 500}}]}"#;
        let phase = parse(text).unwrap();
        assert_eq!((phase.user_us, phase.system_us), (20_000, 180_000));
        assert_eq!(phase.rate(), 100_000.0);
        assert_eq!(phase.cpu_us(), 4.0);
        assert!(parse("fio: failed").is_err());
    }
}
