//! A file server of `net/http` under wrk, which requests files at random.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bench::live::Live;

/// Chooses among the files that the server has made.
const SCRIPT: &str = "\
request = function()
  return wrk.format('GET', '/' .. math.random(0, 1023))
end
";

/// Whether wrk is installed.
pub fn is_installed() -> bool {
    let found = Command::new("wrk")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.is_ok()
}

/// Starts the server, requests files over `connections` connections for a second, and returns the
/// line with which the server ends.
pub fn run(
    mut server: Command,
    name: &str,
    kind: &str,
    dir: &Path,
    connections: u32,
) -> Result<String> {
    let script = dir.join("wrk.lua");
    std::fs::write(&script, SCRIPT).with_context(|| script.display().to_string())?;
    server.arg(kind).arg(dir.join("files"));
    let mut live = Live::start(server, name)?;
    let address = live.line()?;
    let output = Command::new("wrk")
        .args(["-t1", "-d1s", "--timeout", "20s"])
        .arg(format!("-c{connections}"))
        .arg("-s")
        .arg(&script)
        .arg(format!("http://{address}"))
        .output()
        .context("wrk")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{name}: wrk: {said}");
    ensure!(!said.contains("Non-2xx"), "{name}: wrk: {said}");
    live.close_input();
    let line = live.line()?;
    live.end()?;
    Ok(line)
}
