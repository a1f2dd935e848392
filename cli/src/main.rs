//! The `aioshim` command.

mod measure;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "aioshim",
    version,
    about = "Blocking calls on fibers, made asynchronous by LD_PRELOAD"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what the conversion costs and gains on this machine
    Measure(measure::Options),
}

fn main() -> ExitCode {
    let Command::Measure(options) = Cli::parse().command;
    match measure::run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("aioshim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
