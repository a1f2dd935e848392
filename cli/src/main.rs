//! The `aioshim` command.

mod go;
mod measure;
mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "aioshim",
    version,
    about = "Makes blocking calls on fibers asynchronous, by LD_PRELOAD"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build Go programs whose file I/O is asynchronous
    Go(go::Options),
    /// Measure the costs and gains of the conversion on this machine
    Measure(measure::Options),
    /// Replay call traces (AIOSHIM_TRACE) against the shim's policy and others
    Simulate(simulate::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Go(options) => go::run(&options),
        Command::Measure(options) => measure::run(&options),
        Command::Simulate(options) => simulate::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("aioshim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
