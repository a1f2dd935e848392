//! Watchdog for fibers that do not yield their thread (`AIOSHIM_STALL`): it reports which fiber,
//! for how long, and where it is.
//!
//! The host counts its scheduling turns and publishes the running fiber
//! ([`crate::host::HostProbe`]). A thread of the shim samples both periodically. While neither
//! changes, the fiber is computing or blocked in a system call. [`location`] finds out where. Each
//! place is reported once.
//!
//! Invariant: the reported time is the time during which the fiber was seen in the same turn, so it
//! never exceeds the time that the fiber really took.

mod location;

use crate::context::{self, Mutex, MutexGuard};
use crate::host::{Host, HostProbe};
use crate::state::blocked::Blocked;
use crate::state::log;
use crate::state::options;
use format::options::Level;
use location::Location;
use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// An attached thread, while its fibers are watched.
pub struct Registration(Arc<WatchedThread>);

/// The watchdog's data about a thread.
struct WatchedThread {
    tid: i32,
    host: Host,
    probe: HostProbe,
    last: Mutex<LastSample>,
}

// SAFETY: the two words of `probe` may be read from any thread until the thread detaches, and so
// may the host's `name` be called; [`Registration`] waits for the watchdog before that. Nothing
// else of the host is used here.
unsafe impl Send for WatchedThread {}
// SAFETY: as for `Send`: only the two words and `name` are used, from any thread.
unsafe impl Sync for WatchedThread {}

/// The turn that a thread was last seen in.
struct LastSample {
    count: u32,
    fiber: *mut c_void,
    /// The time at which this turn was first seen.
    since: u64,
    /// The time of the next check: at the limit, and then whenever the turn has lasted twice as
    /// long.
    check_at: u64,
    /// The fiber that was reported for this turn.
    reported: Option<String>,
}

fork_reset! {
    /// All watched threads. The watchdog holds the lock while it samples them.
    static ALL: Mutex<Vec<Arc<WatchedThread>>> = Mutex::new(Vec::new());
}
static WATCHDOG: AtomicBool = AtomicBool::new(false);
after_fork!(|| WATCHDOG.store(false, Relaxed));

fn all() -> MutexGuard<'static, Vec<Arc<WatchedThread>>> {
    ALL.get().lock()
}

impl Registration {
    /// Watches the calling thread, which belongs to `host`, if the option is set.
    pub fn begin(host: &Host) -> Option<Self> {
        let limit = options::current().stall?;
        let Some(probe) = host.probe() else {
            static WARNED: AtomicBool = AtomicBool::new(false);
            if !WARNED.swap(true, Relaxed) {
                let line =
                    "AIOSHIM_STALL: this scheduler does not count turns; stalls are not reported";
                log::say(Level::Warn, format_args!("{line}"));
            }
            return None;
        };
        let watched = Arc::new(WatchedThread {
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
            host: *host,
            probe,
            last: Mutex::new(LastSample {
                count: 0,
                fiber: std::ptr::null_mut(),
                since: sys::now(),
                check_at: 0,
                reported: None,
            }),
        });
        all().push(Arc::clone(&watched));
        if !WATCHDOG.swap(true, Relaxed) {
            start_watchdog(limit);
        }
        Some(Self(watched))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Once this has held the lock, the watchdog no longer samples this thread.
        all().retain(|watched| !Arc::ptr_eq(watched, &self.0));
    }
}

fn start_watchdog(limit: u64) {
    let _off = context::libc();
    let _blocked = Blocked::all();
    let thread = std::thread::Builder::new()
        .name("aioshim-stall".into())
        .spawn(move || watch_over(limit));
    if let Err(error) = thread {
        log::say(
            Level::Warn,
            format_args!("AIOSHIM_STALL: cannot start a thread: {error}"),
        );
    }
}

fn watch_over(limit: u64) {
    location::prepare();
    let mut known = HashSet::new();
    loop {
        sys::sleep(limit / 4);
        for watched in all().iter() {
            watched.check(limit, &mut known);
        }
    }
}

impl WatchedThread {
    fn check(&self, limit: u64, known: &mut HashSet<u64>) {
        let mut last = self.last.lock();
        let (count, fiber) = self.sample();
        let now = sys::now();
        if (count, fiber) != (last.count, last.fiber) {
            if let Some(name) = &last.reported {
                let time = Nanos(now - last.since);
                log::say(Level::Warn, format_args!("{name} yielded after {time}"));
            }
            *last = LastSample {
                count,
                fiber,
                since: now,
                check_at: now + limit,
                reported: None,
            };
            return;
        }
        let time = now - last.since;
        if fiber.is_null() || now < last.check_at {
            return;
        }
        last.check_at = now + time;
        let location = Location::of(self.tid);
        // The location only counts if the turn was still the same after the search.
        if self.sample() != (count, fiber) || !known.insert(location.identity()) {
            return;
        }
        let (name, time, tid) = (self.host.name(fiber), Nanos(time), self.tid);
        log::say(
            Level::Warn,
            format_args!(
                "{name} has kept thread {tid} from its other fibers for {time}, {location}"
            ),
        );
        last.reported = Some(name);
    }

    /// The number of turns so far, and the fiber that is running.
    fn sample(&self) -> (u32, *mut c_void) {
        // SAFETY: the words stay in place until the thread detaches, which waits for the watchdog.
        unsafe {
            (
                (*self.probe.turns).load(Relaxed),
                (*self.probe.running).load(Relaxed),
            )
        }
    }
}

/// A time in nanoseconds, displayed with a suitable unit.
struct Nanos(u64);

impl std::fmt::Display for Nanos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n < 1_000_000 => write!(f, "{} us", n / 1000),
            n if n < 10_000_000_000 => write!(f, "{} ms", n / 1_000_000),
            n => write!(f, "{} s", n / 1_000_000_000),
        }
    }
}
