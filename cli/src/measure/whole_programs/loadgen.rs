//! bench/loadgen.c, the client that checks every byte of every answer.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::bench::Bench;
use crate::bench::live::Live;
use crate::bench::programs::Load;

/// The size of a value in the key-value server.
pub const VALUE_BYTES: u32 = 100;
/// The connections to the key-value server.
pub const STORE_CONNECTIONS: u32 = 64;

/// What a client tells about the answers that it got; loadgen.c prints it in this form.
#[derive(Debug, Deserialize)]
pub struct Answers {
    pub requests: u64,
    pub failures: u64,
    pub ns: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
}

/// Starts it and waits for it. `what` are its arguments about the answers.
pub fn run(
    bench: &Bench,
    port: u16,
    connections: u32,
    requests: u32,
    keep_alive: bool,
    what: &[OsString],
    limit: Duration,
) -> Result<Answers> {
    let mut command = bench.programs.command(&bench.programs.loadgen, Load::Plain);
    command.args([
        &port.to_string(),
        &connections.to_string(),
        &requests.to_string(),
    ]);
    command.arg(if keep_alive { "keep-alive" } else { "close" });
    command.args(what);
    let mut live = Live::start(command, "loadgen")?;
    let line = live.line_within(limit)?;
    live.end()?;
    serde_json::from_str(&line).with_context(|| format!("loadgen: unexpected output {line:?}"))
}
