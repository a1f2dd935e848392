//! When this thread left the processor, was woken and came back, as the kernel recorded it.
//!
//! The kernel records each switch of the thread itself (PERF_RECORD_SWITCH), which needs no
//! privilege. When it was woken is a tracepoint in the waking thread, which only root may record.

use std::io;

use super::perf_event::{self, Event, Target};
use super::ring_buffer::{Record, RingBuffer};

/// `PERF_RECORD_SWITCH` and `PERF_RECORD_SAMPLE`.
const SWITCH: u32 = 14;
const SAMPLE: u32 = 9;

/// `PERF_RECORD_MISC_SWITCH_OUT` and `PERF_RECORD_MISC_SWITCH_OUT_PREEMPT`.
const OUT: u16 = 1 << 13;
const PREEMPTED: u16 = 1 << 14;

/// What happened to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It left the processor because it waits.
    Sleeps,
    /// It left the processor although it could run.
    Preempted,
    /// The event for which it waited has happened.
    Woken,
    /// It runs again.
    Runs,
}

/// Something that happened, and when on CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub ns: u64,
    pub what: What,
}

/// The parts of the time that a call took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// From the call until the thread left the processor, or the whole call if it never did.
    pub before: u64,
    /// From then until it was woken. Where that is not recorded, until it ran again.
    pub asleep: u64,
    /// From being woken until it ran.
    pub waking: u64,
    /// From then until the call returned.
    pub after: u64,
    /// How often it left the processor because it waited, and because another was preferred.
    pub sleeps: u64,
    pub preemptions: u64,
    /// How often it was recorded that the thread was woken. The kernel does not record that in an
    /// interrupt of an idle processor.
    pub wakeups: u64,
}

/// The log of the thread that opened it.
pub struct SwitchLog {
    switches: RingBuffer,
    /// One per processor; empty if wake-ups are not recorded.
    wakeups: Vec<RingBuffer>,
    /// Why wake-ups are not recorded.
    pub without_wakeups: Option<String>,
}

impl SwitchLog {
    /// Begins to record this thread, or returns why the kernel refuses.
    pub fn of_this_thread() -> io::Result<SwitchLog> {
        let event = perf_event::open(Event::SwitchRecords, Target::ThisThread)?;
        let switches = RingBuffer::new(event)?;
        let (wakeups, without_wakeups) = match wakeups() {
            Ok(wakeups) => (wakeups, None),
            Err(error) => (Vec::new(), Some(format!("sched_wakeup: {error}"))),
        };
        Ok(SwitchLog {
            switches,
            wakeups,
            without_wakeups,
        })
    }

    /// What happened since the last time, in the order of time.
    pub fn take(&mut self) -> Vec<Moment> {
        let mut moments: Vec<Moment> = self.switches.take().iter().filter_map(switch).collect();
        for buffer in &mut self.wakeups {
            moments.extend(buffer.take().iter().filter_map(wakeup));
        }
        moments.sort_by_key(|moment| moment.ns);
        moments
    }
}

/// Records the wake-ups of this thread on every processor.
fn wakeups() -> io::Result<Vec<RingBuffer>> {
    let event = perf_event::tracepoint("sched/sched_wakeup")?;
    let this_thread = format!("pid == {}", rustix::thread::gettid().as_raw_nonzero());
    let processors = std::thread::available_parallelism()?.get() as u32;
    (0..processors)
        .map(|number| {
            let file = perf_event::open(event, Target::Processor(number))?;
            perf_event::filter(&file, &this_thread)?;
            RingBuffer::new(file)
        })
        .collect()
}

fn switch(record: &Record) -> Option<Moment> {
    let what = match (record.kind, record.flags & OUT, record.flags & PREEMPTED) {
        (SWITCH, 0, _) => What::Runs,
        (SWITCH, _, 0) => What::Sleeps,
        (SWITCH, ..) => What::Preempted,
        _ => return None,
    };
    // The thread comes first, then the time.
    let ns = u64::from_ne_bytes(record.body.get(8..16)?.try_into().ok()?);
    Some(Moment { ns, what })
}

fn wakeup(record: &Record) -> Option<Moment> {
    let time = record.body.get(8..16).filter(|_| record.kind == SAMPLE)?;
    let ns = u64::from_ne_bytes(time.try_into().ok()?);
    let what = What::Woken;
    Some(Moment { ns, what })
}

/// Divides the call from `start` to `end` by what happened during it.
pub fn divide(start: u64, end: u64, moments: &[Moment]) -> Parts {
    let mut parts = Parts::default();
    let mut since = start;
    let mut state = None;
    for moment in moments.iter().filter(|m| (start..=end).contains(&m.ns)) {
        let passed = moment.ns.saturating_sub(since);
        match (state, moment.what) {
            // The thread may be woken while it has not left the processor yet.
            (None | Some(What::Runs), What::Woken) | (Some(What::Woken), What::Woken) => continue,
            (None, _) => parts.before += passed,
            (Some(What::Runs), _) => parts.after += passed,
            (Some(What::Woken | What::Preempted), _) => parts.waking += passed,
            (Some(What::Sleeps), _) => parts.asleep += passed,
        }
        parts.sleeps += u64::from(moment.what == What::Sleeps);
        parts.preemptions += u64::from(moment.what == What::Preempted);
        parts.wakeups += u64::from(moment.what == What::Woken);
        (since, state) = (moment.ns, Some(moment.what));
    }
    let rest = end.saturating_sub(since);
    match state {
        None => parts.before += rest,
        Some(_) => parts.after += rest,
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Moment, Parts, SwitchLog, What, divide};
    use crate::study::instruments::meter::now_ns;

    fn at(ns: u64, what: What) -> Moment {
        Moment { ns, what }
    }

    #[test]
    fn a_call_is_divided_by_its_switches() {
        let moments = [
            at(90, What::Runs),
            at(110, What::Sleeps),
            at(150, What::Woken),
            at(160, What::Runs),
            at(300, What::Sleeps),
        ];
        let parts = Parts {
            before: 10,
            asleep: 40,
            waking: 10,
            after: 40,
            sleeps: 1,
            preemptions: 0,
            wakeups: 1,
        };
        assert_eq!(divide(100, 200, &moments), parts);
        // Without records of wake-ups, the time until it ran counts as asleep.
        let without = [moments[1], moments[3]];
        let parts = Parts {
            asleep: 50,
            waking: 0,
            wakeups: 0,
            ..parts
        };
        assert_eq!(divide(100, 200, &without), parts);
    }

    #[test]
    fn a_call_that_never_sleeps_is_before() {
        let parts = divide(100, 200, &[at(50, What::Runs), at(120, What::Woken)]);
        assert_eq!((parts.before, parts.after, parts.sleeps), (100, 0, 0));
    }

    #[test]
    fn a_preempted_thread_waits_for_the_processor() {
        let parts = divide(0, 100, &[at(20, What::Preempted), at(70, What::Runs)]);
        assert_eq!((parts.before, parts.waking, parts.after), (20, 50, 30));
        assert_eq!((parts.sleeps, parts.preemptions), (0, 1));
    }

    #[test]
    fn a_sleep_is_recorded() {
        let mut log = match SwitchLog::of_this_thread() {
            Ok(log) => log,
            Err(error) => {
                eprintln!("skipped: perf_event_open: {error}");
                return;
            }
        };
        let start = now_ns();
        std::thread::sleep(Duration::from_millis(5));
        let parts = divide(start, now_ns(), &log.take());
        assert!(parts.sleeps >= 1, "{parts:?}");
        assert!(parts.asleep > 3_000_000, "{parts:?}");
        let rest = parts.before + parts.waking + parts.after;
        assert!(parts.asleep + rest >= 5_000_000, "{parts:?}");
    }
}
