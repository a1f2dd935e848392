//! `aioshim go`: builds Go programs whose file I/O is asynchronous.
//!
//! Go compiles its standard library with each program, and `-overlay` replaces files of it for one
//! build. The overlay is made for the Go that builds: nothing is installed or changed there.

mod arguments;
mod check;
mod edits;
mod inspect;
mod overlay;
mod sources;
mod toolchain;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};

use toolchain::Toolchain;

#[derive(Args)]
pub struct Options {
    /// The go command
    #[arg(long, value_name = "PATH", default_value = "go")]
    go: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Compile packages, as `go build` does
    Build(GoArgs),
    /// Compile and install packages
    Install(GoArgs),
    /// List packages
    List(GoArgs),
    /// Compile and run a program
    Run(GoArgs),
    /// Test packages
    Test(GoArgs),
    /// Examine packages
    Vet(GoArgs),
    /// Print variables that make the go command use the overlay: export $(aioshim go env)
    Env {
        /// Print a command for `eval`; needed if GOFLAGS holds other flags
        #[arg(long)]
        eval: bool,
    },
    /// Say whether programs were built with the overlay, and for which Go
    Version {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the path of the overlay for the Go here
    Overlay,
    /// Check that the overlay applies to the Go here, builds, and works
    Check,
}

#[derive(Args)]
#[command(disable_help_flag = true)]
struct GoArgs {
    /// Arguments of the go command
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARG"
    )]
    args: Vec<OsString>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let here = std::env::current_dir().context("the current directory")?;
    match &options.verb {
        Verb::Build(args) => build(options, "build", args, &here),
        Verb::Install(args) => build(options, "install", args, &here),
        Verb::List(args) => build(options, "list", args, &here),
        Verb::Run(args) => build(options, "run", args, &here),
        Verb::Test(args) => build(options, "test", args, &here),
        Verb::Vet(args) => build(options, "vet", args, &here),
        Verb::Env { eval } => env(options, *eval, &here),
        Verb::Version { files } => version(files),
        Verb::Overlay => {
            let go = Toolchain::find(&options.go, &here)?;
            let user = go.overlay_in_flags().map(PathBuf::from);
            println!("{}", overlay::make(&go, user.as_deref(), &here)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Check => {
            check::run(&Toolchain::find(&options.go, &here)?, &here)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs `go VERB`, with the overlay where it compiles.
fn build(options: &Options, verb: &str, args: &GoArgs, here: &Path) -> Result<ExitCode> {
    let args = arguments::parse(verb, &args.args);
    let dir = match &args.dir {
        Some(dir) => here.join(dir),
        None => here.to_owned(),
    };
    ensure!(dir.is_dir(), "{}: not a directory", dir.display());
    let go = Toolchain::find(&options.go, &dir)?;
    // A flag on the command line takes precedence over GOFLAGS, as in Go.
    let user = args
        .overlay
        .clone()
        .or_else(|| go.overlay_in_flags().map(PathBuf::from));
    // Vet examines the user's packages and has no use for the overlay.
    let overlay = match (verb, &user) {
        ("vet", Some(user)) => overlay::users_own(user, &dir)?.unwrap_or_default(),
        ("vet", None) => PathBuf::new(),
        _ => overlay::make(&go, user.as_deref(), &dir)?,
    };
    let mut command = go.command(&dir);
    command.args(args.with_overlay(verb, overlay.as_os_str(), go.vet_reads_overlays()));
    let error = command.exec();
    bail!("{}: {error}", command.get_program().display())
}

/// Prints the variables with which `go build` itself uses the overlay.
fn env(options: &Options, eval: bool, here: &Path) -> Result<ExitCode> {
    let go = Toolchain::find(&options.go, here)?;
    let user = go.overlay_in_flags().map(PathBuf::from);
    let overlay = overlay::make(&go, user.as_deref(), here)?;
    let overlay = overlay
        .to_str()
        .filter(|path| !path.contains([' ', '\t', '\n', '\'', '"']))
        .with_context(|| format!("{}: GOFLAGS cannot hold this path", overlay.display()))?;
    let mut flags = go.other_flags();
    flags.push(format!("-overlay={overlay}"));
    if eval {
        let quoted: Vec<_> = flags.iter().map(|flag| quote_for_go(flag)).collect();
        let value = quoted.join(" ").replace('\'', r"'\''");
        println!("export GOTOOLCHAIN={} GOFLAGS='{value}'", go.pin());
    } else {
        ensure!(
            flags.len() == 1,
            "GOFLAGS holds other flags: use eval \"$(aioshim go env --eval)\""
        );
        println!("GOTOOLCHAIN={} GOFLAGS={}", go.pin(), flags[0]);
    }
    Ok(ExitCode::SUCCESS)
}

/// Quotes a flag for GOFLAGS.
fn quote_for_go(flag: &str) -> String {
    if !flag.contains(char::is_whitespace) {
        flag.to_owned()
    } else if flag.contains('\'') {
        format!("\"{flag}\"")
    } else {
        format!("'{flag}'")
    }
}

/// Describes each file. Fails if one was built without the overlay.
fn version(files: &[PathBuf]) -> Result<ExitCode> {
    let mut all = true;
    for file in files {
        let program = inspect::inspect(file)?;
        println!("{}: {program}", file.display());
        all &= matches!(program, inspect::Program::Converted { .. });
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
