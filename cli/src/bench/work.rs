//! The work between I/O: how many iterations of its loop a microsecond takes on this machine.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Bench;
use super::live::Live;
use super::programs::Load;

/// Measures how many iterations take a microsecond. Takes a tenth of a second.
pub fn turns_per_us(bench: &Bench) -> Result<f64> {
    #[derive(Deserialize)]
    struct Speed {
        turns_per_us: f64,
    }
    let mut command = bench.programs.command(&bench.programs.mixed, Load::Plain);
    command.arg("calibrate");
    let mut live = Live::start(command, "mixed calibrate")?;
    let line = live.line()?;
    live.end()?;
    let speed: Speed = serde_json::from_str(&line)
        .with_context(|| format!("mixed calibrate: unexpected output {line:?}"))?;
    Ok(speed.turns_per_us)
}
