//! A benchmark program that is alive: it answers in lines, and never keeps us waiting for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Longer than any answer takes: a guard against a hang.
const HANG_LIMIT: Duration = Duration::from_secs(30);

/// What a program says of itself before its first round.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Hello {
    /// The shim is in the process.
    pub preloaded: bool,
    /// Rounds are asked for on a fiber.
    pub fiber: bool,
}

/// The program; dropped, it is killed.
pub struct Live {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Live {
    /// Starts `command`, called `name` in errors.
    pub fn start(mut command: Command, name: impl Into<String>) -> Result<Live> {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("{name}: {} does not start", command.get_program().display())
            })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let whole = BufReader::new(stdout).lines().map_while(Result::ok);
            // An error means that nobody listens any more.
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

    /// Starts a program that answers rounds, and makes sure that it runs as meant.
    pub fn start_rounds(command: Command, name: impl Into<String>, meant: Hello) -> Result<Live> {
        let mut live = Live::start(command, name)?;
        let line = live.line()?;
        let hello: Hello =
            serde_json::from_str(&line).with_context(|| format!("{}: said {line:?}", live.name))?;
        ensure!(
            hello == meant,
            "{}: runs as {hello:?}, meant was {meant:?}; is the library there and not refused?",
            live.name
        );
        Ok(live)
    }

    /// The next line it prints.
    pub fn line(&mut self) -> Result<String> {
        self.line_within(HANG_LIMIT)
    }

    /// The next line of one that takes longer.
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

    /// One round of `calls`: nanoseconds a call.
    pub fn round(&mut self, calls: u64) -> Result<f64> {
        let stdin = self.stdin.as_mut().context("rounds end with the input")?;
        // In one write: half a line would be taken for a round. When the program is dead, the line
        // that does not come says why.
        let _ = stdin.write_all(format!("{calls}\n").as_bytes());
        let line = self.line()?;
        line.trim()
            .parse()
            .with_context(|| format!("{}: said {line:?}", self.name))
    }

    /// Lets it end by itself, which must go well.
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

    /// Ends it whatever it does; what it said on standard error.
    fn kill(&mut self) -> String {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            // What came before an error is still worth showing.
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
