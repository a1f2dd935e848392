//! A running benchmark program: it answers in lines, and every wait for an answer has a limit.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Longer than any answer takes, as a guard against a hang.
const HANG_LIMIT: Duration = Duration::from_secs(30);

/// What a program reports about itself before its first round.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Hello {
    /// Whether the shim is loaded into the process.
    pub preloaded: bool,
    /// Whether rounds run on a fiber.
    pub fiber: bool,
}

/// The running program. It is killed when this is dropped.
pub struct Live {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Live {
    /// Starts `command`, which errors call `name`.
    pub fn start(mut command: Command, name: impl Into<String>) -> Result<Live> {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name}: cannot start {}", command.get_program().display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("stdout is not a pipe")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let whole = BufReader::new(stdout).lines().map_while(Result::ok);
            // An error means that the receiver is gone.
            whole
                .map(|line| sender.send(line))
                .take_while(Result::is_ok)
                .count();
        });
        Ok(Live {
            name,
            child,
            stdin,
            lines,
        })
    }

    /// Starts a program that answers rounds, and checks that it runs in the mode `meant`.
    pub fn start_rounds(command: Command, name: impl Into<String>, meant: Hello) -> Result<Live> {
        let mut live = Live::start(command, name)?;
        let line = live.line()?;
        let hello: Hello = serde_json::from_str(&line)
            .with_context(|| format!("{}: unexpected output {line:?}", live.name))?;
        ensure!(
            hello == meant,
            "{}: runs as {hello:?}, expected {meant:?}; check that the library exists and can be \
            loaded",
            live.name
        );
        Ok(live)
    }

    /// Returns the next line that the program prints.
    pub fn line(&mut self) -> Result<String> {
        self.line_within(HANG_LIMIT)
    }

    /// Returns the next line, which may take up to `limit`.
    pub fn line_within(&mut self, limit: Duration) -> Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                let said = self.kill();
                bail!(
                    "{}: no answer in {} s; killed. {said}",
                    self.name,
                    limit.as_secs()
                )
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait()?;
                let said = self.kill();
                bail!("{}: {status}. {said}", self.name)
            }
        }
    }

    /// Closes the standard input of the program, which tells a server to stop.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Runs one round of `calls` calls. Returns the nanoseconds per call.
    pub fn round(&mut self, calls: u64) -> Result<f64> {
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        // Send the number in one write, because the program would take half a line for a whole one.
        // If the program is dead, the missing answer below says why.
        let _ = stdin.write_all(format!("{calls}\n").as_bytes());
        let line = self.line()?;
        line.trim()
            .parse()
            .with_context(|| format!("{}: unexpected output {line:?}", self.name))
    }

    /// Closes the program's standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Lets the program end by itself. Its exit status must be success.
    pub fn end(mut self) -> Result<()> {
        self.stdin = None;
        let status = self.wait()?;
        let said = self.kill();
        ensure!(status.success(), "{}: {status}. {said}", self.name);
        Ok(())
    }

    fn wait(&mut self) -> Result<std::process::ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > HANG_LIMIT {
                let said = self.kill();
                bail!("{}: does not end; killed. {said}", self.name);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the program if it still runs. Returns its output on standard error.
    fn kill(&mut self) -> String {
        // Both fail only if the program has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            // If reading fails, the text before the error is still worth showing.
            let _ = stderr.read_to_string(&mut said);
        }
        said.trim().to_owned()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.kill();
    }
}
