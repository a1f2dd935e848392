//! Watchdog for fibers that do not yield their thread (`AIOSHIM_STALL`): it reports which fiber,
//! for how long, and where it is.
//!
//! The host counts its scheduling turns and publishes the running fiber ([`crate::host::Watch`]). A
//! thread of the shim samples both periodically. While neither changes, the fiber is computing or
//! blocked in a system call. [`location`] finds out where. Each place is reported once.
//!
//! Invariant: the reported time is the time during which the fiber was seen in the same turn, so it
//! never exceeds the time that the fiber really took.

mod location;

use crate::context::{self, Mutex, MutexGuard};
use crate::host::{Host, Watch};
use crate::state::blocked::Blocked;
use crate::state::log;
use crate::state::options;
use format::options::Level;
use location::Place;
use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// An attached thread, while its fibers are watched.
pub struct Watched(Arc<Seen>);

/// The watchdog's data about a thread.
struct Seen {
    tid: i32,
    host: Host,
    watch: Watch,
    last: Mutex<Turn>,
}

// SAFETY: the two words of `watch` may be read from any thread until the thread detaches, and so
// may the host's `name` be called; [`Watched`] waits for the watchdog before that. Nothing else of
// the host is used here.
unsafe impl Send for Seen {}
// SAFETY: as for `Send`: only the two words and `name` are used, from any thread.
unsafe impl Sync for Seen {}

/// The turn that a thread was last seen in.
struct Turn {
    count: u32,
    fiber: *mut c_void,
    /// The time at which this turn was first seen.
    since: u64,
    /// The time of the next check: at the limit, and then whenever the turn has lasted twice as
    /// long.
    look_at: u64,
    /// The fiber that was reported for this turn.
    reported: Option<String>,
}

fork_reset! {
    /// All watched threads. The watchdog holds the lock while it samples them.
    static ALL: Mutex<Vec<Arc<Seen>>> = Mutex::new(Vec::new());
}
static WATCHDOG: AtomicBool = AtomicBool::new(false);
after_fork!(|| WATCHDOG.store(false, Relaxed));

fn all() -> MutexGuard<'static, Vec<Arc<Seen>>> {
    ALL.get().lock()
}

impl Watched {
    /// Watches the calling thread, which belongs to `host`, if the option is set.
    pub fn begin(host: &Host) -> Option<Self> {
        let limit = options::current().stall?;
        let Some(watch) = host.watch() else {
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Relaxed) {
                let line =
                    "AIOSHIM_STALL: this scheduler does not count turns; stalls are not reported";
                log::say(Level::Warn, format_args!("{line}"));
            }
            return None;
        };
        let seen = Arc::new(Seen {
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
            host: *host,
            watch,
            last: Mutex::new(Turn {
                count: 0,
                fiber: std::ptr::null_mut(),
                since: sys::now(),
                look_at: 0,
                reported: None,
            }),
        });
        all().push(Arc::clone(&seen));
        if !WATCHDOG.swap(true, Relaxed) {
            start_watchdog(limit);
        }
        Some(Self(seen))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Once this has held the lock, the watchdog no longer samples this thread.
        all().retain(|seen| !Arc::ptr_eq(seen, &self.0));
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
        for seen in all().iter() {
            seen.look(limit, &mut known);
        }
    }
}

impl Seen {
    fn look(&self, limit: u64, known: &mut HashSet<u64>) {
        let mut last = self.last.lock();
        let (count, fiber) = self.turn();
        let now = sys::now();
        if (count, fiber) != (last.count, last.fiber) {
            if let Some(name) = &last.reported {
                let time = Nanos(now - last.since);
                log::say(Level::Warn, format_args!("{name} yielded after {time}"));
            }
            *last = Turn {
                count,
                fiber,
                since: now,
                look_at: now + limit,
                reported: None,
            };
            return;
        }
        let time = now - last.since;
        if fiber.is_null() || now < last.look_at {
            return;
        }
        last.look_at = now + time;
        let place = Place::of(self.tid);
        // The location only counts if the turn was still the same after the search.
        if self.turn() != (count, fiber) || !known.insert(place.identity()) {
            return;
        }
        let (name, time, tid) = (self.host.name(fiber), Nanos(time), self.tid);
        log::say(
            Level::Warn,
            format_args!("{name} has kept thread {tid} from its other fibers for {time}, {place}"),
        );
        last.reported = Some(name);
    }

    /// The number of turns so far, and the fiber that is running.
    fn turn(&self) -> (u32, *mut c_void) {
        // SAFETY: the words stay in place until the thread detaches, which waits for the watchdog.
        unsafe {
            (
                (*self.watch.turns).load(Relaxed),
                (*self.watch.running).load(Relaxed),
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
