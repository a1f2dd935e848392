//! Ctrl-C: the first ends the study early and keeps its results, the second ends the command.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::places::cleanup;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Catches SIGINT and SIGTERM from now on.
pub fn catch() -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            cleanup::undo_all();
            std::process::exit(130);
        }
        eprintln!("\nmeasure: interrupted; reporting what was measured (again to end at once)");
    })
    .context("cannot catch Ctrl-C")
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
