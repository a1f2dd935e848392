//! The counters, and their report at exit (`AIOSHIM_STATS`).
//!
//! Each attached thread has its own counters and uses plain loads and stores. They are atomic only
//! because another thread may read them for the report. Calls off a fiber are not counted, because
//! they must cost nothing.

#![deny(unsafe_code)]

use crate::context::Mutex;
use crate::host::{FiberCounters, Host};
use crate::record::unhooked;
use crate::state::registry::Registered;
use hdrhistogram::Histogram;
use policy::Reason;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counts of one libc function on one thread.
#[derive(Default)]
pub struct Calls {
    /// Calls that parked for an operation of the engine or the pool.
    pub converted: Counter,
    /// Converted calls that a pool thread performed.
    pub offloaded: Counter,
    /// Calls that completed on the fiber without waiting.
    pub inline: Counter,
    /// Calls that were passed through to libc, by [`Reason`].
    pub passed_through: [Counter; Reason::ALL.len()],
}

/// Values that are measured only if statistics are requested.
#[derive(Clone)]
struct Times {
    /// Nanoseconds parked, by row.
    parked: Vec<Option<Histogram<u64>>>,
    /// Operations per submission.
    batch: Histogram<u64>,
}

/// The host of a thread, and how many fibers it has run there.
#[derive(Default)]
struct HostRecord {
    library: Option<String>,
    /// Of the host that is attached now, if it counts its fibers.
    counters: Option<FiberCounters>,
    /// Fibers that have started, and that have ended, under hosts from before.
    before: [u64; 2],
    counts: bool,
}

impl HostRecord {
    fn fibers(&self) -> [u64; 2] {
        let now = self.counters.as_ref().map_or([0, 0], FiberCounters::read);
        [self.before[0] + now[0], self.before[1] + now[1]]
    }
}

/// One thread's statistics.
pub struct Stats {
    calls: Vec<Calls>,
    times: Option<Mutex<Times>>,
    host: Mutex<HostRecord>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("3 significant digits is a valid precision")
}

registry! {
    /// The statistics of all threads, including threads that have ended.
    static ALL: Registry<Stats>;
}

impl Stats {
    /// Makes or reuses a thread's statistics and registers them for the report.
    pub fn register(timed: bool) -> Registered<Self> {
        ALL.register(|| {
            let times = timed.then(|| {
                Mutex::new(Times {
                    parked: vec![None; calltable::COUNT],
                    batch: histogram(),
                })
            });
            Self {
                calls: (0..calltable::COUNT).map(|_| Calls::default()).collect(),
                times,
                host: Mutex::new(HostRecord::default()),
            }
        })
    }

    /// `host` has attached the thread.
    pub fn begin_host(&self, host: &Host) {
        let (library, counters) = (host.library(), host.counters());
        let mut record = self.host.lock();
        record.counts |= counters.is_some();
        record.counters = counters;
        if library.is_some() {
            record.library = library;
        }
    }

    /// The host is about to detach the thread.
    pub fn end_host(&self) {
        let mut record = self.host.lock();
        record.before = record.fibers();
        record.counters = None;
    }

    #[inline]
    pub fn of(&self, row: usize) -> &Calls {
        &self.calls[row]
    }

    /// Whether parked times and batch sizes are recorded.
    #[inline]
    pub fn timed(&self) -> bool {
        self.times.is_some()
    }

    pub fn parked(&self, row: usize, nanos: u64) {
        self.time(|times| {
            times.parked[row]
                .get_or_insert_with(histogram)
                .record(nanos)
                .is_ok()
        });
    }

    pub fn submitted(&self, operations: u64) {
        self.time(|times| times.batch.record(operations).is_ok());
    }

    /// Ignores failures: recording fails only for values above 2^63.
    fn time(&self, record: impl FnOnce(&mut Times) -> bool) {
        if let Some(times) = &self.times {
            record(&mut times.lock());
        }
    }
}

fork_reset! {
    /// The name of the first engine that was made or refused.
    static ENGINE: Mutex<Option<String>> = Mutex::new(None);
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

/// The sums over all threads for one libc function.
struct Sum {
    name: &'static str,
    converted: u64,
    offloaded: u64,
    inline: u64,
    passed_through: Vec<(&'static str, u64)>,
    parked: Option<Histogram<u64>>,
}

fn sums(all: &[Arc<Stats>], times: &[Times]) -> Vec<Sum> {
    let total = |count: &dyn Fn(&Stats) -> u64| all.iter().map(|stats| count(stats)).sum::<u64>();
    let rows = (0..calltable::COUNT).map(|row| Sum {
        name: calltable::name(row),
        converted: total(&|stats| stats.of(row).converted.get()),
        offloaded: total(&|stats| stats.of(row).offloaded.get()),
        inline: total(&|stats| stats.of(row).inline.get()),
        passed_through: Reason::ALL
            .iter()
            .map(|reason| {
                (
                    reason.name(),
                    total(&|stats| stats.of(row).passed_through[*reason as usize].get()),
                )
            })
            .filter(|(_, n)| *n > 0)
            .collect(),
        parked: merged(times.iter().filter_map(|times| times.parked[row].as_ref())),
    });
    rows.filter(|sum| sum.converted + sum.inline > 0 || !sum.passed_through.is_empty())
        .collect()
}

fn hosts(all: &[Arc<Stats>]) -> Vec<String> {
    let mut hosts: Vec<String> = all
        .iter()
        .filter_map(|stats| stats.host.lock().library.clone())
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn fibers(all: &[Arc<Stats>]) -> Option<[u64; 2]> {
    let of_threads = all.iter().filter_map(|stats| {
        let host = stats.host.lock();
        host.counts.then(|| host.fibers())
    });
    of_threads.reduce(|sum, of_thread| [sum[0] + of_thread[0], sum[1] + of_thread[1]])
}

fn merged<'a>(mut parts: impl Iterator<Item = &'a Histogram<u64>>) -> Option<Histogram<u64>> {
    let first = parts.next()?.clone();
    Some(parts.fold(first, |mut sum, part| {
        sum += part;
        sum
    }))
}

/// A snapshot of all counts, ready to be formatted.
pub struct StatsReport {
    engine: String,
    /// The names of the libraries that attached threads.
    hosts: Vec<String>,
    /// How many fibers have started and ended, if a host counts them.
    fibers: Option<[u64; 2]>,
    sums: Vec<Sum>,
    batch: Option<Histogram<u64>>,
    /// None if they are not traced.
    unhooked: Option<unhooked::UnhookedReport>,
}

impl StatsReport {
    pub fn collect() -> Self {
        let engine = ENGINE.get().lock().clone();
        let all = ALL.all();
        let times: Vec<Times> = all
            .iter()
            .filter_map(|stats| Some(stats.times.as_ref()?.lock().clone()))
            .collect();
        let batch =
            merged(times.iter().map(|times| &times.batch)).filter(|batch| !batch.is_empty());
        Self {
            engine: engine.unwrap_or_else(|| "not needed".to_owned()),
            hosts: hosts(&all),
            fibers: fibers(&all),
            sums: sums(&all, &times),
            batch,
            unhooked: unhooked::UnhookedReport::collect(),
        }
    }

    /// One JSON object on one line.
    pub fn json(&self) -> String {
        let calls: Map<String, Value> = self
            .sums
            .iter()
            .map(|sum| (sum.name.to_owned(), sum.json()))
            .collect();
        let batch = self.batch.as_ref().map(|batch| {
            json!({ "submissions": batch.len(), "mean": batch.mean(),
                "p50": batch.value_at_quantile(0.5),
                    "p99": batch.value_at_quantile(0.99), "max": batch.max() })
        });
        json!({ "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
            "engine": self.engine, "hosts": self.hosts,
                "fibers": self.fibers.map(|[started, ended]| {
                    json!({ "started": started, "ended": ended })
                }),
                "calls": calls, "batch": batch,
                "escapes": self.unhooked.as_ref().map(unhooked::UnhookedReport::json) })
        .to_string()
            + "\n"
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "aioshim: pid {}, engine: {}",
            std::process::id(),
            self.engine
        );
        if !self.hosts.is_empty() {
            let _ = write!(text, ", host: {}", self.hosts.join(", "));
        }
        if let Some([started, ended]) = self.fibers {
            let _ = write!(text, ", fibers: {started} started, {ended} ended");
        }
        text.push('\n');
        if self.sums.is_empty() {
            text += "aioshim: no call was made on a fiber\n";
        } else {
            self.write_calls(&mut text);
        }
        if let Some(unhooked) = &self.unhooked {
            text += &unhooked.table();
        }
        text
    }

    fn write_calls(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:<22} {:>10} {:>10} {:>10} {:>10} {:>12} {:>12}  through, why",
            "call", "converted", "offloaded", "inline", "through", "parked p50", "p99"
        );
        for sum in &self.sums {
            let through: u64 = sum.passed_through.iter().map(|(_, n)| n).sum();
            let reasons: Vec<String> = sum
                .passed_through
                .iter()
                .map(|(reason, n)| format!("{reason} {n}"))
                .collect();
            let quantile = |q| match &sum.parked {
                Some(parked) => format!("{:.1} us", parked.value_at_quantile(q) as f64 / 1000.0),
                None => "-".to_owned(),
            };
            let _ = writeln!(
                text,
                "{:<22} {:>10} {:>10} {:>10} {:>10} {:>12} {:>12}  {}",
                sum.name,
                sum.converted,
                sum.offloaded,
                sum.inline,
                through,
                quantile(0.5),
                quantile(0.99),
                reasons.join(", ")
            );
        }
        if let Some(batch) = &self.batch {
            let _ = writeln!(
                text,
                "{} submissions at the end of a round, operations in each: mean {:.1}, p50 {}, p99 \
                {}, max {}",
                batch.len(),
                batch.mean(),
                batch.value_at_quantile(0.5),
                batch.value_at_quantile(0.99),
                batch.max()
            );
        }
    }
}

impl Sum {
    fn json(&self) -> Value {
        let through: Map<String, Value> = self
            .passed_through
            .iter()
            .map(|(reason, n)| ((*reason).to_owned(), json!(n)))
            .collect();
        let parked = self.parked.as_ref().map(|parked| {
            json!({ "p50": parked.value_at_quantile(0.5), "p99": parked.value_at_quantile(0.99),
                "max": parked.max() })
        });
        json!({ "converted": self.converted, "offloaded": self.offloaded, "inline": self.inline,
            "through": through, "parked_ns": parked })
    }
}
