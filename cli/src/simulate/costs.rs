//! The cost model: what a call costs its thread, in nanoseconds, depending on how it is made. This
//! includes the time in which a blocked thread keeps other fibers waiting.
//!
//! The time that a fiber itself waits for a device is not a cost, because the fiber would wait in
//! any case. It becomes a cost if it blocks the thread, because then all other fibers of that
//! thread wait too. The figures are from docs/measured.md; copying is part of `plain`.

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::row::{Decided, Kind, Row};
use super::truth::Truth;
use policy::{Contention, Hint};

/// The ways to make a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// The unchanged libc call.
    Plain,
    /// A non-blocking attempt; if it fails, the call is submitted.
    Try,
    Submit,
}

impl Method {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Try, Self::Submit];
}

macro_rules! costs {
    ($($(#[$doc:meta])* $name:ident: $ns:literal;)*) => {
        /// The parameters of the model, in nanoseconds.
        #[derive(Clone, Debug, Serialize)]
        pub struct Costs { $($(#[$doc])* pub $name: f64,)* }

        impl Default for Costs {
            fn default() -> Self {
                Self { $($name: f64::from($ns)),* }
            }
        }

        impl Costs {
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            fn slot(&mut self, name: &str) -> Option<&mut f64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

costs! {
    /// A plain call that finds all its data.
    plain: 545;
    /// The additional cost of a try that hits.
    try_hit: 95;
    /// A try that fails, without the call that follows it.
    try_miss: 700;
    /// A submission and its round of the scheduler; the operations of a batch share this cost.
    submission: 960;
    /// Each operation of a batch.
    operation: 520;
    /// An operation that a thread of the kernel or of the thread pool must carry out.
    offload: 6000;
    /// The additional cost of a submitted transfer at the file position: the position lock and two
    /// lseek(2).
    position: 350;
    /// The latency of a device.
    device: 70_000;
    /// An fsync(2) that has data to write.
    flush: 700_000;
    /// The latency of a peer, for a thread that waits for it in the kernel. If the peer runs on the
    /// same thread, it may never answer.
    peer: 1_000_000;
    /// A write that the kernel throttles: at most this, and less if the trace says so.
    throttle: 1_000_000;
    /// For inference: a call had to wait if it took longer than this ...
    waited: 50_000;
    /// ... plus this for each fiber that could run beside it.
    waited_beside: 5000;
}

impl Costs {
    /// Parses and applies `name=nanoseconds`.
    pub fn set(&mut self, word: &str) -> Result<()> {
        let (name, value) = word
            .split_once('=')
            .with_context(|| format!("--cost {word}: expected NAME=NS"))?;
        let value: f64 = value.parse().with_context(|| format!("--cost {word}"))?;
        if !(value.is_finite() && value >= 0.0) {
            bail!("--cost {word}: expected 0 or more nanoseconds");
        }
        let slot = self.slot(name).with_context(|| {
            format!("--cost {name}: expected one of {}", Self::NAMES.join(", "))
        })?;
        *slot = value;
        Ok(())
    }

    /// The longest time in nanoseconds that a call takes if it need not wait.
    pub fn longest_copy(&self, row: &Row) -> f64 {
        self.waited + self.waited_beside * f64::from(row.load.batch)
    }

    /// Returns the whole cost of a call made this way, and the part of it during which the thread
    /// was blocked.
    pub fn of(&self, method: Method, row: &Row, truth: Truth, refuses_tries: bool) -> (f64, f64) {
        let blocked = match truth {
            Truth::Miss if delays(row) => self.wait(row),
            _ => 0.0,
        };
        let submitted = self.submitted(row, refuses_tries);
        match (method, truth) {
            (Method::Plain, _) => (self.plain + blocked, blocked),
            (Method::Submit, _) => (submitted, 0.0),
            // RWF_NOWAIT does not prevent an O_DIRECT transfer from waiting.
            (Method::Try, Truth::Miss) if row.hint.contains(Hint::DIRECT) => {
                (self.plain + self.try_hit + blocked, blocked)
            }
            (Method::Try, _) if refuses_tries || cannot_try(row) => {
                (self.try_miss + submitted, 0.0)
            }
            (Method::Try, Truth::Hit) => (self.plain + self.try_hit, 0.0),
            (Method::Try, Truth::Miss) => (self.try_miss + submitted, 0.0),
        }
    }

    fn submitted(&self, row: &Row, refuses_tries: bool) -> f64 {
        if refuses_tries || is_offloaded(row) {
            return self.offload;
        }
        if row.at_position && row.hint.contains(Hint::SEEKABLE) {
            // Operations at the same file position run one after another.
            return self.operation + self.submission + self.position;
        }
        self.operation + self.submission / f64::from(row.load.batch + 1)
    }

    fn wait(&self, row: &Row) -> f64 {
        match row.kind {
            Kind::Sync => self.flush,
            Kind::Read | Kind::Write if row.hint.contains(Hint::STREAM) => self.peer,
            // For a plain write, the trace shows how long the kernel throttled it.
            Kind::Write if !row.hint.intersects(Hint::DIRECT.with(Hint::SYNC)) => {
                match row.decision {
                    Decided::Copy => self.throttle.min(row.inline_ns as f64),
                    _ => self.throttle,
                }
            }
            _ => self.device,
        }
    }
}

/// Returns whether another fiber waits while the thread is blocked in this call. With a stream on
/// several workers, the peer may need a fiber of this thread.
fn delays(row: &Row) -> bool {
    match row.load.contention {
        Contention::OthersRunnable => true,
        Contention::NoneNow => row.hint.contains(Hint::STREAM),
        Contention::SoleFiber => false,
    }
}

/// Returns whether a call has no usable non-blocking form. ext4, like most file systems, refuses
/// RWF_NOWAIT for buffered writes, and fsync has no such form.
fn cannot_try(row: &Row) -> bool {
    match row.kind {
        Kind::Write => row.hint.contains(Hint::SEEKABLE),
        Kind::Sync => true,
        _ => false,
    }
}

/// Returns whether io_uring passes the operation to its worker threads.
fn is_offloaded(row: &Row) -> bool {
    match row.kind {
        Kind::Write => row.hint.contains(Hint::SEEKABLE) && !row.hint.contains(Hint::DIRECT),
        Kind::Sync | Kind::Open => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::row::parse_one;

    fn cost(method: Method, row: &str, truth: Truth) -> f64 {
        Costs::default().of(method, &parse_one(row), truth, false).0
    }

    const LONE: &str = "1,1,pread,3,0,1,4096,0,0,0,2,alone,hit,1,0,0";
    const FEW: &str = "1,1,pread,3,0,1,4096,0,0,0,0,try,hit,1,0,0";
    const AMONG_64: &str = "1,1,pread,3,0,1,4096,0,63,0,0,submit,hit,1,0,0";

    #[test]
    fn cached_reads_cost_what_was_measured() {
        assert_eq!(cost(Method::Plain, FEW, Truth::Hit), 545.0);
        assert_eq!(cost(Method::Try, FEW, Truth::Hit), 640.0);
        assert_eq!(cost(Method::Submit, FEW, Truth::Hit), 1480.0);
        assert!((cost(Method::Submit, AMONG_64, Truth::Hit) - 535.0).abs() < 1.0);
    }

    #[test]
    fn blocking_costs_a_device_time_unless_nobody_waits() {
        assert_eq!(cost(Method::Plain, FEW, Truth::Miss), 70_545.0);
        assert_eq!(cost(Method::Plain, LONE, Truth::Miss), 545.0);
        assert_eq!(cost(Method::Try, FEW, Truth::Miss), 2180.0);
    }

    #[test]
    fn a_buffered_write_is_dear_to_submit_and_a_direct_read_waits_when_tried() {
        let write = "1,1,pwrite,3,0,1,4096,0,0,0,0,copy,hit,1,0,0";
        assert_eq!(cost(Method::Submit, write, Truth::Hit), 6000.0);
        let direct = "1,1,pread,3,0,5,4096,0,0,0,0,submit,-,1,9,0";
        assert_eq!(cost(Method::Try, direct, Truth::Miss), 70_640.0);
    }

    #[test]
    fn costs_can_be_set_by_name() {
        let mut costs = Costs::default();
        costs.set("device=1000").unwrap();
        assert_eq!(costs.device, 1000.0);
        for bad in ["device", "device=x", "device=-1", "divice=1"] {
            assert!(costs.set(bad).is_err(), "{bad}");
        }
    }
}
