//! Start-up, before `main`: options, the real functions behind the hooks, fork, the report at exit.
//! The order is:
//!
//! 1. standard error and the options, because all later steps may log;
//! 2. the rate of the cycle counter;
//! 3. the real functions, so that no hook looks one up in the middle of a call (dlsym may call a
//!    preloaded malloc, which may call a hook);
//! 4. which malloc the process uses, because that also uses dlsym;
//! 5. the fork handler;
//! 6. the report and the trace at exit, if requested;
//! 7. the main thread as a fiber, if requested.
//!
//! A hook needs none of this to pass through: if another library's constructor calls it before
//! start-up, it finds libc's function itself.

use crate::calls::{locks, thread_state};
use crate::entry::{fork, main_fiber};
use crate::hooks;
use crate::record::stats::StatsReport;
use crate::record::trace;
use crate::runtime::{language, resolver_state, signal};
use crate::state::options;
use crate::state::{allocator, fork_reset, loader, log, stderr};
use format::options::{Conf, Level, StatsFormat};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use sys::stopwatch;

static STARTED: AtomicBool = AtomicBool::new(false);

#[cfg(not(test))]
#[ctor::ctor(unsafe)]
fn preloaded() {
    // ISO C requires that errno is 0 when main begins.
    let errno = sys::errno::get();
    ensure();
    sys::errno::set(errno);
}

/// Starts up, unless that was done: another library's constructor may attach a host before ours
/// runs.
pub fn ensure() {
    if STARTED.swap(true, Ordering::AcqRel) {
        return;
    }
    stderr::remember();
    log::report_panics();
    let (conf, complaints) = options();
    let reports = conf.stats != StatsFormat::Off && conf.on;
    let traces = conf.trace.is_some() && conf.on;
    let main_is_fiber = conf.main_is_fiber && conf.on;
    options::set(conf);
    for complaint in complaints {
        log::say(Level::Warn, format_args!("{complaint}"));
    }
    sys::find_clock();
    stopwatch::calibrate();
    hooks::bind();
    signal::bind();
    locks::bind();
    language::bind();
    resolver_state::bind();
    loader::bind();
    allocator::find();
    fork_reset::mark_memory();
    fork::register_handlers();
    if reports {
        if options::current().out.is_none() {
            stderr::keep();
        }
        // SAFETY: `report` is never unloaded, because a preloaded library never is.
        unsafe { libc::atexit(report) };
    }
    if traces {
        // SAFETY: `end_trace` is never unloaded, because a preloaded library never is.
        unsafe { libc::atexit(end_trace) };
    }
    if main_is_fiber {
        main_fiber::attach_main();
    }
}

/// The options, and one line for each mistake in them.
///
/// A program with more rights than its caller (set-user-ID, set-group-ID, file capabilities) passes
/// everything through and ignores the environment, because its caller controls that. Like the
/// dynamic loader with its own variables, this also removes the shim's variables: otherwise a child
/// process that the program starts with all its rights would read them.
fn options() -> (Conf, Vec<String>) {
    let environment: Vec<_> = std::env::vars_os().collect();
    // SAFETY: only reads the auxiliary vector.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
        return format::options::read(
            environment
                .iter()
                .map(|(n, v)| (n.as_bytes(), v.as_bytes())),
        );
    }
    for (name, _) in environment
        .iter()
        .filter(|(name, _)| format::options::is_option(name.as_bytes()))
    {
        // SAFETY: this runs before main, on the only thread.
        unsafe { std::env::remove_var(name) };
    }
    (Conf::PASS_THROUGH, Vec::new())
}

extern "C" fn end_trace() {
    if thread_state::must_be_quiet() {
        return;
    }
    trace::flush();
}

extern "C" fn report() {
    if thread_state::must_be_quiet() {
        return;
    }
    let report = StatsReport::collect();
    let text = if options::current().stats == StatsFormat::Json {
        report.json()
    } else {
        report.table()
    };
    log::write(text.as_bytes());
}
