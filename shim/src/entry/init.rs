//! Start-up, before `main`: options, fork, the report at exit. The order is:
//!
//! 1. which objects the loader has loaded, because that tells where libc's functions are;
//! 2. standard error and the options, because all later steps may log;
//! 3. the rate of the cycle counter;
//! 4. what can be learned only now: the main thread's resolver settings, the loader's locks while
//!    none of them is held, and where libc and malloc are, because a child of fork must not ask the
//!    loader;
//! 5. the fork handler;
//! 6. the report and the trace at exit, if requested;
//! 7. the main thread as a fiber, if requested.
//!
//! Every program that the preloaded program starts goes through this, and most of them have no
//! fibers. So what only fibers need waits until a thread is attached ([`prepare`]), and a hook
//! finds libc's function when it is called first. In a program without options, start-up allocates
//! nothing.

use crate::calls::{locks, thread_state};
use crate::entry::{fork, main_fiber};
use crate::hooks;
use crate::record::stats::StatsReport;
use crate::record::trace;
use crate::runtime::{language, resolver_state, signal};
use crate::state::options;
use crate::state::{allocator, fork_reset, loaded, loader, log, stderr};
use format::options::{Conf, Level, StatsFormat};
use std::ffi::{CStr, OsStr, c_char};
use std::iter;
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
    loaded::remember();
    stderr::remember();
    log::report_panics();
    if let Some((conf, complaints)) = options() {
        options::set(conf);
        for complaint in complaints {
            log::say(Level::Warn, format_args!("{complaint}"));
        }
    }
    let conf = options::current();
    stopwatch::calibrate();
    signal::register();
    resolver_state::bind();
    loader::bind();
    hooks::collect_libraries();
    allocator::find();
    fork::register_handlers();
    if !loaded::is_readable() {
        // Only the loader can look names up. It must not be asked when a thread is attached,
        // because another thread may hold its lock while it waits for that.
        prepare();
    }
    if conf.stats != StatsFormat::Off && conf.on {
        if options::current().out.is_none() {
            stderr::keep();
        }
        // SAFETY: `report` is never unloaded, because a preloaded library never is.
        unsafe { libc::atexit(report) };
    }
    if conf.trace.is_some() && conf.on {
        // SAFETY: `end_trace` is never unloaded, because a preloaded library never is.
        unsafe { libc::atexit(end_trace) };
    }
    if conf.main_is_fiber && conf.on {
        main_fiber::attach_main();
    }
}

/// Prepares for fibers, unless that was done: finds the functions that calls on a fiber need
/// besides their own, and finds out whether other libraries interpose any. Whoever attaches the
/// first thread calls this, while no other thread attaches or forks.
pub fn prepare() {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    if PREPARED.swap(true, Ordering::AcqRel) {
        return;
    }
    if let Some(function) = loaded::of_libc(c"clock_gettime") {
        // SAFETY: that is libc's function.
        unsafe { sys::use_clock(function) };
    }
    hooks::bind();
    locks::bind();
    language::bind();
    fork_reset::mark_memory();
}

/// The options, and one line for each mistake in them. None if the environment sets none.
///
/// A program with more rights than its caller (set-user-ID, set-group-ID, file capabilities) passes
/// everything through and ignores the environment, because its caller controls that. Like the
/// dynamic loader with its own variables, this also removes the shim's variables: otherwise a child
/// process that the program starts with all its rights would read them.
fn options() -> Option<(Conf, Vec<String>)> {
    // SAFETY: only reads the auxiliary vector.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
        let variables: Vec<_> = variables().collect();
        return (!variables.is_empty()).then(|| format::options::read(variables.into_iter()));
    }
    let names: Vec<_> = variables()
        .map(|(name, _)| OsStr::from_bytes(name).to_owned())
        .collect();
    for name in names {
        // SAFETY: this runs before main, on the only thread.
        unsafe { std::env::remove_var(name) };
    }
    Some((Conf::PASS_THROUGH, Vec::new()))
}

/// The options in the environment, with their values. [`std::env::vars_os`] would copy all
/// variables.
fn variables() -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: libc's variable, which is null or points to the environment.
    let mut at = unsafe { environ };
    iter::from_fn(move || {
        // SAFETY: a null pointer ends the list. Nothing changes it before main.
        let text = unsafe { at.as_ref() }.filter(|text| !text.is_null())?;
        // SAFETY: the list goes on, because this was not its end; the text ends in a NUL.
        let (next, text) = unsafe { (at.add(1), CStr::from_ptr(*text)) };
        at = next;
        Some(text.to_bytes())
    })
    .filter(|text| format::options::is_option(text))
    .filter_map(|text| {
        let end = text.iter().position(|byte| *byte == b'=')?;
        Some((&text[..end], &text[end + 1..]))
    })
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
