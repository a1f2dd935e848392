//! How long the kernel's handlers run, from the tracepoints at their begin and end. Only root may
//! record them.

use std::io;

use super::perf_event::{self, Target};
use super::ring_buffer::{Record, RingBuffer};

/// `PERF_RECORD_SAMPLE`.
const SAMPLE: u32 = 9;

/// The handlers whose runs are recorded, on every processor.
pub struct SpanLog(Vec<(RingBuffer, RingBuffer)>);

/// The runs of a kind of handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    pub count: u64,
    /// The time of all of them in nanoseconds.
    pub ns: u64,
}

impl SpanLog {
    /// Records from the tracepoint `begin` to `end`, where `condition` holds for both.
    pub fn between(begin: &str, end: &str, condition: Option<&str>) -> io::Result<SpanLog> {
        let processors = std::thread::available_parallelism()?.get() as u32;
        let open = |name, number| {
            let event = perf_event::tracepoint(name)?;
            let file = perf_event::open(event, Target::Processor(number))?;
            if let Some(condition) = condition {
                perf_event::filter(&file, condition)?;
            }
            RingBuffer::new(file)
        };
        (0..processors)
            .map(|number| Ok((open(begin, number)?, open(end, number)?)))
            .collect::<io::Result<_>>()
            .map(SpanLog)
    }

    /// The runs since the last time.
    pub fn take(&mut self) -> Spans {
        let mut all = Spans::default();
        for (begins, ends) in &mut self.0 {
            let times = |buffer: &mut RingBuffer| -> Vec<u64> {
                buffer.take().iter().filter_map(time).collect()
            };
            let spans = pair(&times(begins), &times(ends));
            all.count += spans.count;
            all.ns += spans.ns;
        }
        all
    }
}

/// The time of a record, which follows the thread.
fn time(record: &Record) -> Option<u64> {
    let bytes = record.body.get(8..16).filter(|_| record.kind == SAMPLE)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// Pairs each begin with the first end after it, before the next begin. Handlers of a kind do not
/// interrupt each other on a processor.
fn pair(begins: &[u64], ends: &[u64]) -> Spans {
    let mut spans = Spans::default();
    for (at, &begin) in begins.iter().enumerate() {
        let end = ends.partition_point(|&end| end < begin);
        let next = begins.get(at + 1).copied().unwrap_or(u64::MAX);
        if let Some(&end) = ends.get(end).filter(|&&end| end <= next) {
            spans.count += 1;
            spans.ns += end - begin;
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::{SpanLog, Spans, pair};
    use crate::study::instruments::awake::Awake;

    #[test]
    fn each_begin_has_its_own_end() {
        let spans = pair(&[10, 20, 40], &[5, 13, 25]);
        assert_eq!(spans, Spans { count: 2, ns: 8 });
        assert_eq!(pair(&[10, 20], &[30]), Spans { count: 1, ns: 10 });
        assert_eq!(pair(&[], &[30]), Spans::default());
    }

    #[test]
    fn timer_interrupts_are_recorded() {
        let log = SpanLog::between("irq/softirq_entry", "irq/softirq_exit", None);
        let mut log = match log {
            Ok(log) => log,
            Err(error) => {
                eprintln!("skipped: the tracepoints of soft interrupts: {error}");
                return;
            }
        };
        // A processor that is not idle handles timers at every tick.
        let awake = Awake::start().expect("threads");
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(awake);
        let spans = log.take();
        assert!(spans.count > 0 && spans.ns > 0, "{spans:?}");
    }
}
