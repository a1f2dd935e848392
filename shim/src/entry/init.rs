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
use crate::context::Mutex;
use crate::entry::fork::{self, Renewable};
use crate::hooks;
use crate::host::main_fiber;
use crate::record::stats::Report;
use crate::record::trace;
use crate::runtime::{language, signal};
use crate::state::options::{self, Conf, EngineChoice, Level, StatsFormat};
use crate::state::{allocator, loader, log, stderr};
use once_cell::race::OnceBox;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use sys::stopwatch;

static CONF: OnceBox<Conf> = OnceBox::new();
static STARTED: AtomicBool = AtomicBool::new(false);
/// The name of the first engine that was made or refused.
static ENGINE: Renewable<Mutex<Option<String>>> = Renewable::new(Mutex::new(None));

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
    let _ = CONF.set(Box::new(conf));
    for complaint in complaints {
        log::say(Level::Warn, format_args!("{complaint}"));
    }
    sys::find_clock();
    stopwatch::calibrate();
    hooks::bind();
    signal::bind();
    locks::bind();
    language::bind();
    loader::bind();
    allocator::find();
    fork::watch();
    if reports {
        if self::conf().out.is_none() {
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
        main_fiber::adopt();
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
        return options::read(
            environment
                .iter()
                .map(|(n, v)| (n.as_bytes(), v.as_bytes())),
        );
    }
    for (name, _) in environment
        .iter()
        .filter(|(name, _)| options::is_option(name.as_bytes()))
    {
        // SAFETY: this runs before main, on the only thread.
        unsafe { std::env::remove_var(name) };
    }
    (Conf::PASS_THROUGH, Vec::new())
}

/// The options; the defaults until start-up has read them.
pub fn conf() -> &'static Conf {
    static DEFAULT: Conf = Conf::DEFAULT;
    CONF.get().unwrap_or(&DEFAULT)
}

/// The first engine that a thread may try. Valgrind runs one thread at a time, and it runs no other
/// thread during a blocking call that it does not know, such as io_uring_enter. Therefore io_uring
/// is used under valgrind only if AIOSHIM_ENGINE names it, for counting the instructions of a
/// single-threaded program.
pub fn highest_rung() -> EngineChoice {
    if conf().engine != EngineChoice::Uring && is_under_valgrind() {
        EngineChoice::Threads
    } else {
        EngineChoice::Auto
    }
}

/// Whether the program runs under valgrind, which preloads a library of its own.
fn is_under_valgrind() -> bool {
    static UNDER_VALGRIND: OnceBox<bool> = OnceBox::new();
    *UNDER_VALGRIND.get_or_init(|| {
        let preloaded = std::env::var_os("LD_PRELOAD").unwrap_or_default();
        Box::new(
            preloaded
                .as_bytes()
                .windows(10)
                .any(|name| name == b"vgpreload_"),
        )
    })
}

/// Remembers the engine's name for the report.
pub fn note_engine(name: String) {
    ENGINE.get().lock().get_or_insert(name);
}

/// Remembers for the report that another engine replaced the first.
pub fn note_engine_change(name: &str) {
    if let Some(engines) = ENGINE.get().lock().as_mut() {
        engines.push_str(", then ");
        engines.push_str(name);
    }
}

/// In the child of a fork, which has no engine yet.
///
/// # Safety
/// The same as for [`Renewable::renew`].
pub unsafe fn renew() {
    // SAFETY: our caller makes the same promise.
    unsafe { ENGINE.renew(Mutex::new(None)) };
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
    let engine = ENGINE.get().lock().clone();
    let report = Report::collect(engine.unwrap_or_else(|| "not needed".to_owned()));
    let text = if conf().stats == StatsFormat::Json {
        report.json()
    } else {
        report.table()
    };
    log::write(text.as_bytes());
}
