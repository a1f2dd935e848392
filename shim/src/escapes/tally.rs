//! The counts of escaped calls: a small table a thread, a row for each place that makes one.
//!
//! Written in a signal handler and in assembly, by the thread alone: nothing allocates, nothing
//! locks. Read at exit, when addresses become names.

use super::waits;
use crate::registry::{Registered, Registry};
use crate::stats::Counter;
use crate::{hooks, symbol};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use syscalls::Sysno;

/// A call that takes longer kept other fibers waiting; one that does not is harmless.
const BLOCKED_NANOS: u64 = 1_000_000;

/// In the place of a hook's row: the shim called libc itself.
pub const OWN: u32 = u32::MAX;

/// Places a thread tells apart.
const PLACES: usize = 256;

/// One place: a system call by number, at an instruction, passed on by a hook or by none. The first
/// four words are known to the assembly of dispatch.rs.
#[repr(C)]
#[derive(Default)]
pub struct Place {
    /// Clock ticks in all its calls.
    ticks: Counter,
    /// In the longest.
    longest: Counter,
    /// Calls that took at least `limit` ticks.
    blocked: Counter,
    limit: Counter,
    calls: Counter,
    /// The system call's number plus one; 0 while the place is free.
    call: AtomicU32,
    /// The hook's row plus one; 0 for none, or [`OWN`].
    row: AtomicU32,
    /// Where the instruction ends.
    at: AtomicUsize,
}

/// One thread's places; the last is for whatever found no room.
pub struct Tally {
    places: Box<[Place]>,
    counts: AtomicBool,
}

static ALL: Registry<Tally> = Registry::new();

/// In the child of a fork: the parent's counts are the parent's.
///
/// # Safety
/// As [`Renewable::renew`].
pub unsafe fn forget_all() {
    // SAFETY: vouched for by the caller.
    unsafe { ALL.forget_all() };
}

impl Tally {
    /// A thread's, known to the report.
    pub fn register() -> Registered<Self> {
        let limit = (BLOCKED_NANOS as f64 * clock::ticks_a_nano()) as u64;
        let place = || {
            let place = Place::default();
            place.limit.add(limit);
            place
        };
        let tally = ALL.register(|| Self {
            places: (0..PLACES).map(|_| place()).collect(),
            counts: AtomicBool::new(false),
        });
        tally.counts.store(true, Relaxed);
        tally
    }

    /// It counts nothing after all.
    pub fn withdraw(&self) {
        self.counts.store(false, Relaxed);
    }

    /// Counts a call and gives its place, for its time.
    pub fn count(&self, call: u32, row: u32, at: usize) -> &Place {
        let others = PLACES - 1;
        let begin = (at ^ at >> 7 ^ call as usize) % others;
        let place = (0..others)
            .map(|n| &self.places[(begin + n) % others])
            .find(|place| place.take(call, row, at))
            .unwrap_or_else(|| {
                self.places[others].take(u32::MAX - 1, 0, 0);
                &self.places[others]
            });
        place.calls.add(1);
        place
    }
}

impl Place {
    /// Whether it is this one, now if it was free.
    fn take(&self, call: u32, row: u32, at: usize) -> bool {
        if self.call.load(Relaxed) == 0 {
            self.row.store(row, Relaxed);
            self.at.store(at, Relaxed);
            self.call.store(call + 1, Relaxed);
            return true;
        }
        self.call.load(Relaxed) == call + 1
            && self.row.load(Relaxed) == row
            && self.at.load(Relaxed) == at
    }
}

/// Whom a call comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The program, past every hook.
    Nobody,
    /// This hook passed it to libc.
    Hook(&'static str),
    /// A lock of the shim's.
    Shim,
}

/// What a place counted, in words.
struct Line {
    call: String,
    /// What it can wait for.
    waits_for: &'static str,
    by: By,
    at: String,
    calls: u64,
    blocked: u64,
    longest_nanos: u64,
}

/// All threads' counts, ready to be told.
pub struct Report {
    threads: usize,
    lines: Vec<Line>,
}

impl Report {
    /// None when no thread was watched.
    pub fn collect() -> Option<Self> {
        let mut all = ALL.all();
        all.retain(|tally| tally.counts.load(Relaxed));
        if all.is_empty() {
            return None;
        }
        let mut lines: Vec<Line> = Vec::new();
        for place in all.iter().flat_map(|tally| &tally.places) {
            let Some(line) = place.line() else { continue };
            match lines.iter_mut().find(|known| known.is_of(&line)) {
                Some(known) => known.add(&line),
                None => lines.push(line),
            }
        }
        lines.sort_by(|a, b| (b.blocked, b.calls, &a.call).cmp(&(a.blocked, a.calls, &b.call)));
        Some(Self {
            threads: all.len(),
            lines,
        })
    }

    /// Calls, and those that took long, of the lines that `of` takes.
    fn sums(&self, of: fn(By) -> bool) -> (u64, u64) {
        let lines = self.lines.iter().filter(|line| of(line.by));
        lines.fold((0, 0), |(calls, blocked), line| {
            (calls + line.calls, blocked + line.blocked)
        })
    }

    pub fn json(&self) -> Value {
        let list = |of: fn(By) -> bool| {
            let (calls, blocked) = self.sums(of);
            let places: Vec<Value> = self
                .lines
                .iter()
                .filter(|line| of(line.by))
                .map(Line::json)
                .collect();
            json!({ "calls": calls, "blocked": blocked, "places": places })
        };
        json!({ "threads": self.threads, "escaped": list(By::is_nobody), "passed": list(By::is_hook),
                "own": list(By::is_shim) })
    }

    pub fn table(&self) -> String {
        let mut text =
            String::from("system calls that can block, on fibers' threads, and those over 1 ms:\n");
        for (what, of) in [
            ("escaped", By::is_nobody as fn(By) -> bool),
            ("passed through by a hook", By::is_hook),
            ("locks of the shim's own", By::is_shim),
        ] {
            let (calls, blocked) = self.sums(of);
            let _ = writeln!(text, "  {what}: {calls}, {blocked}");
            for line in self.lines.iter().filter(|line| of(line.by)) {
                let hook = match line.by {
                    By::Hook(hook) => format!(", from {hook}"),
                    By::Nobody | By::Shim => String::new(),
                };
                let longest = line.longest_nanos as f64 / 1000.0;
                let _ = writeln!(
                    text,
                    "    {:<16} {:>8} {:>6}, longest {longest:.1} us, waits for {}, at {}{hook}",
                    line.call, line.calls, line.blocked, line.waits_for, line.at,
                );
            }
        }
        text
    }
}

impl By {
    fn is_nobody(self) -> bool {
        self == Self::Nobody
    }

    fn is_hook(self) -> bool {
        matches!(self, Self::Hook(_))
    }

    fn is_shim(self) -> bool {
        self == Self::Shim
    }
}

impl Place {
    fn line(&self) -> Option<Line> {
        let number = self.call.load(Relaxed).checked_sub(1)?;
        let call = Sysno::new(number as usize);
        Some(Line {
            call: match call {
                Some(call) => call.name().to_owned(),
                None => "others".to_owned(),
            },
            waits_for: call.map_or("something", waits::reason),
            by: match self.row.load(Relaxed) {
                0 => By::Nobody,
                OWN => By::Shim,
                row => By::Hook(hooks::NAMES[row as usize - 1]),
            },
            at: symbol::name_of(self.at.load(Relaxed)),
            calls: self.calls.get(),
            blocked: self.blocked.get(),
            longest_nanos: (self.longest.get() as f64 / clock::ticks_a_nano()) as u64,
        })
    }
}

impl Line {
    fn is_of(&self, other: &Self) -> bool {
        (&self.call, self.by, &self.at) == (&other.call, other.by, &other.at)
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.blocked += other.blocked;
        self.longest_nanos = self.longest_nanos.max(other.longest_nanos);
    }

    fn json(&self) -> Value {
        let hook = match self.by {
            By::Hook(hook) => Some(hook),
            By::Nobody | By::Shim => None,
        };
        json!({ "call": self.call, "waits_for": self.waits_for, "at": self.at, "hook": hook, "calls": self.calls,
                "blocked": self.blocked, "longest_ns": self.longest_nanos })
    }
}

/// The clock that assembly can read without a call.
pub mod clock {
    use crate::sys;
    use std::sync::OnceLock;

    /// Ticks so far.
    #[cfg(target_arch = "x86_64")]
    pub fn now() -> u64 {
        // SAFETY: every x86-64 has the instruction; the kernel leaves it allowed wherever it uses
        // it itself.
        unsafe { std::arch::x86_64::_rdtsc() }
    }

    /// Nothing is timed here: system calls are not dispatched.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn now() -> u64 {
        sys::now()
    }

    /// How fast it ticks, looked at for two milliseconds at first.
    pub fn ticks_a_nano() -> f64 {
        static RATE: OnceLock<f64> = OnceLock::new();
        *RATE.get_or_init(|| {
            let (ticks, nanos) = (now(), sys::now());
            while sys::now() - nanos < 2_000_000 {}
            (now() - ticks) as f64 / (sys::now() - nanos) as f64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_call_at_an_address_and_what_finds_no_room_is_counted_together() {
        let tally = Tally {
            places: (0..PLACES).map(|_| Place::default()).collect(),
            counts: AtomicBool::new(false),
        };
        for at in 0..2 * PLACES {
            tally.count(Sysno::read as u32, 0, at);
            tally.count(Sysno::read as u32, 0, at);
        }
        let taken = tally
            .places
            .iter()
            .filter(|place| place.calls.get() == 2)
            .count();
        assert_eq!(taken, PLACES - 1);
        assert_eq!(
            tally.places[PLACES - 1].calls.get(),
            2 * (PLACES + 1) as u64
        );
        let line = tally.places[PLACES - 1].line().expect("it counted");
        assert!(line.call == "others" && line.by == By::Nobody);
    }
}
