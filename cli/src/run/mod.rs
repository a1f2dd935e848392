//! `aioshim run`: runs a program with libaioshim.so preloaded.
//!
//! The program replaces this process, so its exit status or signal is what the caller sees. The
//! command's own exit statuses are those of env(1): 125 if it fails itself, 126 if the program
//! cannot be run with the preload, 127 if there is no such program.

mod hosts;
mod libraries;
mod target;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Error};
use clap::Args;

use libraries::Libraries;

/// The exit status if the command itself fails.
pub const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Args)]
#[command(after_help = hosts::help())]
pub struct Options {
    /// Also preload the adapter for a scheduler: libaioshim_NAME.so (the list is below)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// A directory of the libraries, searched before this command's own and ../lib; may be repeated
    #[arg(long, value_name = "DIR")]
    libdir: Vec<PathBuf>,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    words: Vec<OsString>,
}

/// Runs the command. Returns only if the program cannot be run.
pub fn run(options: &Options) -> ExitCode {
    let (status, error) = start(options);
    eprintln!("aioshim run: {error:#}");
    ExitCode::from(status)
}

/// Replaces this process by the program. Returns the exit status and the reason if that fails.
fn start(options: &Options) -> (u8, Error) {
    let preloads = match preloads(options) {
        Ok(preloads) => preloads,
        Err(error) => return (FAILED, error),
    };
    let (name, arguments) = options.words.split_first().expect("clap requires one");
    let Some(program) = target::find(name) else {
        let error = Error::msg(format!("{}: no such program", name.display()));
        return (NOT_FOUND, error);
    };
    if let Err(error) = target::check(&program) {
        return (CANNOT_RUN, error);
    }
    let error = Command::new(&program)
        .arg0(name)
        .args(arguments)
        .env("LD_PRELOAD", preloads)
        .exec();
    let status = match error.kind() {
        std::io::ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_RUN,
    };
    let error = Error::new(error).context(name.display().to_string());
    (status, error)
}

/// The value of LD_PRELOAD: the adapter, the shim, and what was there before.
fn preloads(options: &Options) -> anyhow::Result<OsString> {
    let command = std::env::current_exe().context("the path of this command")?;
    let mut libraries = Libraries::new(&options.libdir, &command);
    let mut paths = Vec::new();
    if let Some(host) = &options.host {
        paths.push(libraries.adapter(host)?);
    }
    paths.push(libraries.shim()?);
    let mut value = OsString::new();
    for path in paths {
        value.push(libraries::for_the_loader(&path)?);
        value.push(":");
    }
    value.push(std::env::var_os("LD_PRELOAD").unwrap_or_default());
    Ok(value)
}
