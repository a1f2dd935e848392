//! A trace of the calls on fibers (`AIOSHIM_TRACE`): the state before each call, the policy's
//! decision, and the outcome.
//!
//! `aioshim simulate` replays it against other policies; docs/policy.md describes the format. A
//! traced call takes a separate path through its hook, with a [`CallRecord`] to fill in, so
//! untraced calls pay nothing for it. Each thread keeps rows in a buffer in memory, and appends
//! them to the file when the buffer is full and at exit.

#![deny(unsafe_code)]

use crate::context::Mutex;
use crate::engine::{Direction, Transfer};
use crate::state::descriptors::Descriptor;
use crate::state::log;
use crate::state::options;
use format::trace::header;
use policy::{Contention, Decision, Hint, Load};
use std::cell::Cell;
use std::ffi::c_int;
use std::fmt::Write;
use std::sync::Arc;
use sys::errno;

/// The rows that a thread keeps in memory: about a megabyte.
const ROWS: usize = 8192;

/// The rows of one thread's calls that are not written yet.
pub struct Trace {
    thread: i32,
    rows: Mutex<Vec<Row>>,
}

fork_reset! {
    /// The traces of all threads, to be written at exit.
    static ALL: Mutex<Vec<Arc<Trace>>> = Mutex::new(Vec::new());
}

#[derive(Clone, Copy)]
struct Row {
    at: u64,
    call: usize,
    fd: c_int,
    file: u32,
    kind: Hint,
    bytes: usize,
    /// -1 for a transfer at the file position.
    offset: i64,
    batch: u32,
    in_flight: usize,
    contention: Contention,
    /// None if the policy had no choice.
    decision: Option<Decision>,
    outcome: Option<AttemptOutcome>,
    inline_ns: u64,
    parked_ns: u64,
    error: c_int,
}

/// Whether the call could complete at once.
#[derive(Clone, Copy)]
pub enum AttemptOutcome {
    Hit,
    Miss,
    /// The file does not support tries.
    Refused,
}

impl Trace {
    /// Makes the calling thread's trace, if a trace is requested.
    pub fn register() -> Option<Tracing> {
        options::current().trace.as_ref()?;
        let trace = Arc::new(Self {
            thread: rustix::thread::gettid().as_raw_nonzero().get(),
            rows: Mutex::new(Vec::new()),
        });
        ALL.get().lock().push(Arc::clone(&trace));
        Some(Tracing(trace))
    }

    fn add(&self, row: Row) {
        let mut rows = self.rows.lock();
        if rows.capacity() == 0 {
            rows.reserve_exact(ROWS);
        }
        rows.push(row);
        if rows.len() == ROWS {
            self.write(&rows);
            rows.clear();
        }
    }

    fn flush(&self) {
        let mut rows = self.rows.lock();
        if !rows.is_empty() {
            self.write(&rows);
            rows.clear();
        }
    }

    fn write(&self, rows: &[Row]) {
        let mut text = String::with_capacity(rows.len() * 96);
        for row in rows {
            row.write(self.thread, &mut text);
        }
        log::append_trace(&(header() + "\n"), &text);
    }
}

/// A thread's trace, until the thread is detached.
pub struct Tracing(Arc<Trace>);

impl Drop for Tracing {
    /// Writes the remaining rows, because no more will be added.
    fn drop(&mut self) {
        ALL.get()
            .lock()
            .retain(|trace| !Arc::ptr_eq(trace, &self.0));
        self.0.flush();
    }
}

/// Writes the remaining rows of all threads.
pub fn flush() {
    let all = ALL.get().lock().clone();
    for trace in all {
        trace.flush();
    }
}

impl Row {
    fn write(&self, thread: i32, text: &mut String) {
        let decision = match self.decision {
            Some(Decision::PassThrough(reason)) => reason.name(),
            Some(Decision::Attempt) => "try",
            Some(Decision::Inline) => "copy",
            Some(Decision::Submit) => "submit",
            None if self.parked_ns > 0 => "submit",
            None => "inline",
        };
        let outcome = match self.outcome {
            Some(AttemptOutcome::Hit) => "hit",
            Some(AttemptOutcome::Miss) => "miss",
            Some(AttemptOutcome::Refused) => "refused",
            None => "-",
        };
        let _ = writeln!(
            text,
            "{},{thread},{},{},{:x},{},{},{},{},{},{},{decision},{outcome},{},{},{}",
            self.at,
            calltable::name(self.call),
            self.fd,
            self.file,
            self.kind.kind(),
            self.bytes,
            self.offset,
            self.batch,
            self.in_flight,
            self.contention as u8,
            self.inline_ns,
            self.parked_ns,
            self.error
        );
    }
}

/// The record of one traced call, from its hook to its end, on the fiber's stack.
pub struct CallRecord {
    trace: Option<Arc<Trace>>,
    row: Cell<Row>,
    /// Nanoseconds that do not count as the call's: parked for a turn at the position, or spent on
    /// checking the page cache.
    waited: Cell<u64>,
}

impl CallRecord {
    pub fn begin(call: usize, trace: Option<&Tracing>) -> Self {
        Self {
            trace: trace.map(|Tracing(trace)| Arc::clone(trace)),
            row: Cell::new(Row {
                at: sys::now(),
                call,
                fd: -1,
                file: 0,
                kind: Hint::from_bits(0),
                bytes: 0,
                offset: -1,
                batch: 0,
                in_flight: 0,
                contention: Contention::OthersRunnable,
                decision: None,
                outcome: None,
                inline_ns: 0,
                parked_ns: 0,
                error: 0,
            }),
            waited: Cell::new(0),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Row)) {
        let mut row = self.row.get();
        change(&mut row);
        self.row.set(row);
    }

    /// How busy the thread was when the policy decided.
    pub fn set_load(&self, load: Load, in_flight: usize) {
        self.change(|row| {
            (row.batch, row.contention, row.in_flight) = (load.batch, load.contention, in_flight)
        });
    }

    /// The call is about this descriptor.
    pub fn set_descriptor(&self, fd: c_int, descriptor: Option<Descriptor>) {
        self.change(|row| {
            row.fd = fd;
            if let Some(descriptor) = descriptor {
                (row.kind, row.file) = (descriptor.hint(), descriptor.inode());
            }
        });
    }

    /// The policy's decision on a transfer. If the transfer itself will not show whether its data
    /// is in the page cache, this checks it.
    pub fn set_transfer(
        &self,
        transfer: &Transfer,
        descriptor: Descriptor,
        hint: Hint,
        decision: Decision,
    ) {
        if self.trace.is_none() {
            return;
        }
        self.set_descriptor(transfer.fd, Some(descriptor));
        let buffered = hint.contains(Hint::SEEKABLE)
            && !hint.contains(Hint::DIRECT)
            && transfer.direction == Direction::Read;
        let unseen = matches!(decision, Decision::Submit | Decision::PassThrough(_));
        let begin = sys::now();
        let outcome = (buffered && unseen).then(|| cached(transfer)).flatten();
        self.add_waited(sys::now() - begin);
        self.change(|row| {
            row.kind = hint;
            row.bytes = transfer.buffer_len().unwrap_or(0);
            row.offset = transfer.offset;
            row.decision = Some(decision);
            row.outcome = outcome;
        });
    }

    pub fn set_pass_through(&self, reason: policy::Reason) {
        self.change(|row| row.decision = Some(Decision::PassThrough(reason)));
    }

    /// The policy's decision on a call without a descriptor.
    pub fn set_decision(&self, decision: Decision) {
        self.change(|row| row.decision = Some(decision));
    }

    pub fn set_outcome(&self, outcome: AttemptOutcome) {
        self.change(|row| row.outcome = Some(outcome));
    }

    pub fn add_parked(&self, nanos: u64) {
        self.change(|row| row.parked_ns += nanos);
    }

    pub fn add_waited(&self, nanos: u64) {
        self.waited.set(self.waited.get() + nanos);
    }

    /// The call returns. If it `failed`, this thread's errno says why.
    pub fn end(&self, failed: bool) {
        let Some(trace) = &self.trace else { return };
        let error = errno::get();
        self.change(|row| {
            row.inline_ns = (sys::now() - row.at).saturating_sub(row.parked_ns + self.waited.get());
            row.error = if failed { error } else { 0 };
        });
        trace.add(self.row.get());
        errno::set(error);
    }
}

/// Whether all data that `transfer` will read is in the page cache. None if the kernel does not
/// tell (before 6.5, or for another user's file). A try is no substitute, because it would start
/// reading the file.
fn cached(transfer: &Transfer) -> Option<AttemptOutcome> {
    let bytes = transfer.buffer_len()? as u64;
    let offset = if transfer.at_position() {
        sys::lseek(transfer.fd, 0, libc::SEEK_CUR).ok()?
    } else {
        transfer.offset
    } as u64;
    let end = offset
        .saturating_add(bytes)
        .min(sys::fstat(transfer.fd).ok()?.st_size as u64);
    if offset >= end {
        return Some(AttemptOutcome::Hit);
    }
    let page = sys::page_size() as u64;
    let pages = (end - 1) / page - offset / page + 1;
    let found = sys::cached_pages(transfer.fd, offset, end - offset).ok()?;
    Some(if found >= pages {
        AttemptOutcome::Hit
    } else {
        AttemptOutcome::Miss
    })
}
