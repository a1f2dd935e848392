//! Start-up, before `main`: options, the real functions behind the hooks, fork, the report at exit.
//! In this order:
//!
//! 1. standard error and the options, because everything after may log;
//! 2. the rate of the cycle counter;
//! 3. the real functions, so that no hook looks one up in the middle of a call (dlsym may call a
//!    preloaded malloc, which may call a hook);
//! 4. whose malloc this is, for the same reason;
//! 5. the fork handler;
//! 6. the report and the trace at exit, if asked for;
//! 7. the main thread as a fiber, if asked for.
//!
//! Nothing here is needed for a hook to pass through: one that is called before, by another
//! library's constructor, finds libc's function by itself.

use crate::calls::{locks, thread_state};
use crate::conf::{self, Conf, EngineChoice, Level, StatsFormat};
use crate::critical::Mutex;
use crate::fork::Renewable;
use crate::stats::Report;
use crate::{
    allocator, cancel, fork, hooks, loader, log, main_fiber, runtimes, signal, stderr, stopwatch,
    sys, trace,
};
use once_cell::race::OnceBox;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

static CONF: OnceBox<Conf> = OnceBox::new();
static STARTED: AtomicBool = AtomicBool::new(false);
/// What the first engine that was made, or refused, said of itself.
static ENGINE: Renewable<Mutex<Option<String>>> = Renewable::new(Mutex::new(None));

#[cfg(not(test))]
#[ctor::ctor(unsafe)]
fn preloaded() {
    // ISO C has errno 0 when main begins.
    let errno = crate::errno::get();
    ensure();
    crate::errno::set(errno);
}

/// Starts up, unless done: a host of another library's constructor may come before ours.
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
    cancel::bind();
    runtimes::bind();
    loader::bind();
    allocator::find();
    fork::watch();
    if reports {
        if self::conf().out.is_none() {
            stderr::keep();
        }
        // SAFETY: `report` is a function that stays: a preloaded library is never unloaded.
        unsafe { libc::atexit(report) };
    }
    if traces {
        // SAFETY: `end_trace` is a function that stays, too.
        unsafe { libc::atexit(end_trace) };
    }
    if main_is_fiber {
        main_fiber::adopt();
    }
}

/// The options, and a line for each thing wrong in them.
///
/// A program that has more rights than its caller (set-user-ID, set-group-ID, file capabilities)
/// passes everything through, and takes no word of the environment, which is its caller's. The
/// dynamic loader treats its own variables so, and removes them besides: a process that the program
/// starts with all its rights would read them.
fn options() -> (Conf, Vec<String>) {
    let environment: Vec<_> = std::env::vars_os().collect();
    // SAFETY: only reads the auxiliary vector.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
        return conf::read(
            environment
                .iter()
                .map(|(n, v)| (n.as_bytes(), v.as_bytes())),
        );
    }
    for (name, _) in environment
        .iter()
        .filter(|(name, _)| conf::is_option(name.as_bytes()))
    {
        // SAFETY: before main, on the only thread.
        unsafe { std::env::remove_var(name) };
    }
    (Conf::PASS_THROUGH, Vec::new())
}

/// The options; the defaults until start-up has read them.
pub fn conf() -> &'static Conf {
    static DEFAULT: Conf = Conf::DEFAULT;
    CONF.get().unwrap_or(&DEFAULT)
}

/// The highest engine that a thread may begin with. Valgrind runs one thread at a time, and none
/// beside a call that it does not know to wait, such as io_uring_enter. So io_uring is used there
/// only where it was asked for by name: by those who count the instructions of a program of one
/// thread.
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

/// Remembers, for the report, what carries out the operations.
pub fn note_engine(name: String) {
    ENGINE.get().lock().get_or_insert(name);
}

/// Remembers, for the report, that an engine had to be replaced.
pub fn note_engine_change(name: &str) {
    if let Some(engines) = ENGINE.get().lock().as_mut() {
        engines.push_str(", then ");
        engines.push_str(name);
    }
}

/// In the child of a fork, whose engine is yet to be made.
///
/// # Safety
/// As [`Renewable::renew`].
pub unsafe fn renew() {
    // SAFETY: vouched for by the caller.
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
