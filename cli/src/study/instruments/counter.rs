//! A counter of one of this thread's events.

use std::fs::File;
use std::io::{self, Read};

use super::perf_event::{self, Event, Target};

/// Counts since it was opened.
pub struct Counter(File);

impl Counter {
    /// Opens a counter for this thread, or returns why the kernel refuses.
    pub fn of_this_thread(event: Event) -> io::Result<Counter> {
        perf_event::open(event, Target::ThisThread).map(Counter)
    }

    /// The count so far.
    pub fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Counter;
    use crate::study::instruments::perf_event::Event;

    #[test]
    fn a_sleep_is_a_context_switch() {
        let counter = match Counter::of_this_thread(Event::ContextSwitches) {
            Ok(counter) => counter,
            Err(error) => {
                eprintln!("skipped: perf_event_open: {error}");
                return;
            }
        };
        let before = counter.read().expect("a count");
        std::thread::sleep(Duration::from_millis(1));
        assert!(counter.read().expect("a count") > before);
    }
}
