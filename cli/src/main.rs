//! The `aioshim` command.

mod bench;
mod go;
mod measure;
mod ram_disk;
mod run;
mod simulate;
mod slow_files;
mod study;

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
    /// Study when asynchronous I/O beats blocking I/O on this machine
    Measure(measure::Options),
    /// Make the report of a study from its result file, or compare two
    Report(study::report::Options),
    /// Run a program with libaioshim.so preloaded
    Run(run::Options),
    /// Replay call traces (AIOSHIM_TRACE) against the shim's policy and others
    Simulate(simulate::Options),
    /// Create a block device in memory, until the standard input closes
    #[command(hide = true)]
    RamDisk(ram_disk::Options),
    /// Mount a FUSE file system whose reads take a chosen time, until the standard input closes
    #[command(hide = true)]
    SlowFiles(slow_files::Options),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let result = match cli.command {
        Command::Go(options) => go::run(&options),
        Command::Measure(options) if options.names_tables() => measure::run(&options),
        Command::Measure(options) => study::run(&options),
        Command::Report(options) => study::report::run(&options),
        Command::Run(options) => return run::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::RamDisk(options) => ram_disk::run(&options),
        Command::SlowFiles(options) => slow_files::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("aioshim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the help, or why the arguments are wrong, and returns the exit status.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done if the stream is closed.
    let _ = error.print();
    let of_run = std::env::args_os().nth(1).is_some_and(|word| word == "run");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if of_run => ExitCode::from(run::FAILED),
        _ => ExitCode::from(2),
    }
}
