//! The records of one attached thread: its statistics and its trace, the tracer of system calls
//! that no hook sees, and its registration at the watchdog.

use super::stats::Stats;
use super::trace::{CallRecord, Trace, Tracing};
use super::unhooked::{Pause, SyscallTracer};
use super::watchdog::Registration;
use crate::host::Host;
use crate::state::registry::Registered;
use crate::state::{interposed, options};
use format::options::StatsFormat;

pub struct Recorder {
    stats: Registered<Stats>,
    trace: Option<Tracing>,
    tracer: Option<Box<SyscallTracer>>,
    watchdog: Option<Registration>,
    /// Its calls are timed or traced, or another library interposes some of them.
    watched: bool,
}

impl Recorder {
    /// Begins the records of the calling thread, which belongs to `host`.
    pub fn begin(host: &Host) -> Self {
        let stats = Stats::register(options::current().stats != StatsFormat::Off);
        stats.begin_host(host);
        let trace = Trace::register();
        Self {
            watched: stats.timed() || trace.is_some() || interposed::is_any(),
            stats,
            trace,
            tracer: SyscallTracer::begin(host),
            watchdog: Registration::begin(host),
        }
    }

    #[inline(always)]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether calls are recorded because statistics or a trace need them.
    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// The tracer of system calls that no hook sees, if it is enabled.
    #[inline]
    pub fn tracer(&self) -> Option<&SyscallTracer> {
        self.tracer.as_deref()
    }

    /// While the result lives, the thread's system calls are not traced, because they are the
    /// shim's.
    pub fn pause_tracer(&self) -> Option<Pause<'_>> {
        self.tracer().map(SyscallTracer::pause)
    }

    /// Begins the record of a watched call.
    pub fn begin_call(&self, row: usize) -> CallRecord {
        if let Some(tracer) = self.tracer() {
            tracer.resume();
        }
        CallRecord::begin(row, self.trace.as_ref())
    }

    /// A batch of `operations` is about to be submitted.
    pub fn note_batch(&self, operations: u32) {
        if operations > 0 && self.stats.timed() {
            self.stats.submitted(u64::from(operations));
        }
    }

    /// Call before the thread is detached.
    pub fn end(&mut self) {
        self.watchdog = None;
        self.stats.end_host();
        if let Some(tracer) = self.tracer.take() {
            tracer.end();
        }
    }
}
