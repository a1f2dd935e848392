//! The counts of escaped calls: a small table per thread, with a row for each place that makes one.
//!
//! Only the thread itself writes to it, in a signal handler and in assembly. Therefore it neither
//! allocates nor locks. The report at exit reads it and translates addresses into names.

use crate::record::stats::Counter;
use crate::state::registry::Registered;
use crate::state::symbol;
use serde_json::{Value, json};
use std::ffi::c_long;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use sys::stopwatch;
use syscalls::Sysno;

/// A call that takes longer than this has delayed other fibers; a shorter one is harmless.
const BLOCKED_NANOS: u64 = 1_000_000;

/// In place of a hook's row: the shim itself called libc.
pub const SHIM: u32 = u32::MAX;

/// The number of places that are counted separately per thread.
const MAX_SITES: usize = 256;

/// A place: a system call by number, at an instruction, passed on by a hook or not. The assembly in
/// dispatch.rs knows the first four words.
#[repr(C)]
#[derive(Default)]
pub struct CallSite {
    /// Clock ticks spent in all its calls.
    ticks: Counter,
    /// Clock ticks spent in the longest call.
    longest: Counter,
    /// Number of calls that took at least `limit` ticks.
    blocked: Counter,
    limit: Counter,
    calls: Counter,
    /// The system call's number plus one; 0 while the place is free.
    call: AtomicU32,
    /// The hook's row plus one; 0 for no hook, or [`SHIM`].
    row: AtomicU32,
    /// The address after the instruction.
    at: AtomicUsize,
}

/// The places of one thread. The last one counts all calls that found no free place.
pub struct CallSites {
    sites: Box<[CallSite]>,
    counts: AtomicBool,
}

registry! {
    static ALL: Registry<CallSites>;
}

impl CallSites {
    /// Creates a thread's tally, which the report will include.
    pub fn register() -> Registered<Self> {
        let limit = (BLOCKED_NANOS as f64 * stopwatch::ticks_per_nano()) as u64;
        let site = || {
            let site = CallSite::default();
            site.limit.add(limit);
            site
        };
        let sites = ALL.register(|| Self {
            sites: (0..MAX_SITES).map(|_| site()).collect(),
            counts: AtomicBool::new(false),
        });
        sites.counts.store(true, Relaxed);
        sites
    }

    /// Excludes this tally from the report.
    pub fn withdraw(&self) {
        self.counts.store(false, Relaxed);
    }

    /// Counts a call, and returns its place for its duration.
    pub fn count(&self, call: u32, row: u32, at: usize) -> &CallSite {
        let others = MAX_SITES - 1;
        let begin = (at ^ at >> 7 ^ call as usize) % others;
        let site = (0..others)
            .map(|n| &self.sites[(begin + n) % others])
            .find(|site| site.take(call, row, at))
            .unwrap_or_else(|| {
                self.sites[others].take(u32::MAX - 1, 0, 0);
                &self.sites[others]
            });
        site.calls.add(1);
        site
    }
}

impl CallSite {
    /// Whether this place is for the given call. Takes the place if it was free.
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

/// The origin of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The program, without a hook.
    Program,
    /// This hook passed it to libc.
    Hook(&'static str),
    /// The shim's own code, for one of its locks.
    Shim,
}

/// The counts of a place, as text.
struct Line {
    call: String,
    /// The event that the call can wait for.
    waits_for: &'static str,
    by: Origin,
    at: String,
    calls: u64,
    blocked: u64,
    longest_nanos: u64,
}

/// The counts of all threads, ready for output.
pub struct UnhookedReport {
    threads: usize,
    lines: Vec<Line>,
}

impl UnhookedReport {
    /// None if no thread was traced.
    pub fn collect() -> Option<Self> {
        let mut all = ALL.all();
        all.retain(|sites| sites.counts.load(Relaxed));
        if all.is_empty() {
            return None;
        }
        let mut lines: Vec<Line> = Vec::new();
        for site in all.iter().flat_map(|sites| &sites.sites) {
            let Some(line) = site.line() else { continue };
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

    /// The number of calls, and of long calls, in the lines that `of` accepts.
    fn sums(&self, of: fn(Origin) -> bool) -> (u64, u64) {
        let lines = self.lines.iter().filter(|line| of(line.by));
        lines.fold((0, 0), |(calls, blocked), line| {
            (calls + line.calls, blocked + line.blocked)
        })
    }

    pub fn json(&self) -> Value {
        let list = |of: fn(Origin) -> bool| {
            let (calls, blocked) = self.sums(of);
            let sites: Vec<Value> = self
                .lines
                .iter()
                .filter(|line| of(line.by))
                .map(Line::json)
                .collect();
            json!({ "calls": calls, "blocked": blocked, "places": sites })
        };
        json!({ "threads": self.threads, "escaped": list(Origin::is_program),
            "passed": list(Origin::is_hook),
                "own": list(Origin::is_shim) })
    }

    pub fn table(&self) -> String {
        let mut text = String::from(
            "system calls that can block, on fibers' threads (calls, calls over 1 ms):\n",
        );
        for (what, of) in [
            ("escaped", Origin::is_program as fn(Origin) -> bool),
            ("passed through by a hook", Origin::is_hook),
            ("the shim's own locks", Origin::is_shim),
        ] {
            let (calls, blocked) = self.sums(of);
            let _ = writeln!(text, "  {what}: {calls}, {blocked}");
            for line in self.lines.iter().filter(|line| of(line.by)) {
                let hook = match line.by {
                    Origin::Hook(hook) => format!(", from {hook}"),
                    Origin::Program | Origin::Shim => String::new(),
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

impl Origin {
    fn is_program(self) -> bool {
        self == Self::Program
    }

    fn is_hook(self) -> bool {
        matches!(self, Self::Hook(_))
    }

    fn is_shim(self) -> bool {
        self == Self::Shim
    }
}

impl CallSite {
    fn line(&self) -> Option<Line> {
        let number = self.call.load(Relaxed).checked_sub(1)?;
        let call = Sysno::new(number as usize);
        Some(Line {
            call: match call {
                Some(call) => call.name().to_owned(),
                None => "others".to_owned(),
            },
            waits_for: calltable::wait_of(c_long::from(number))
                .map_or("something", |wait| wait.event),
            by: match self.row.load(Relaxed) {
                0 => Origin::Program,
                SHIM => Origin::Shim,
                row => Origin::Hook(calltable::name(row as usize - 1)),
            },
            at: symbol::name_of(self.at.load(Relaxed)),
            calls: self.calls.get(),
            blocked: self.blocked.get(),
            longest_nanos: (self.longest.get() as f64 / stopwatch::ticks_per_nano()) as u64,
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
            Origin::Hook(hook) => Some(hook),
            Origin::Program | Origin::Shim => None,
        };
        json!({ "call": self.call, "waits_for": self.waits_for, "at": self.at, "hook": hook,
            "calls": self.calls,
                "blocked": self.blocked, "longest_ns": self.longest_nanos })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_call_at_an_address_and_what_finds_no_room_is_counted_together() {
        let sites = CallSites {
            sites: (0..MAX_SITES).map(|_| CallSite::default()).collect(),
            counts: AtomicBool::new(false),
        };
        for at in 0..2 * MAX_SITES {
            sites.count(Sysno::read as u32, 0, at);
            sites.count(Sysno::read as u32, 0, at);
        }
        let taken = sites
            .sites
            .iter()
            .filter(|site| site.calls.get() == 2)
            .count();
        assert_eq!(taken, MAX_SITES - 1);
        assert_eq!(
            sites.sites[MAX_SITES - 1].calls.get(),
            2 * (MAX_SITES + 1) as u64
        );
        let line = sites.sites[MAX_SITES - 1].line().expect("it counted");
        assert!(line.call == "others" && line.by == Origin::Program);
    }
}
