//! Instruments: clocks, counters and the kernel's own records of what happens to a thread.

pub mod awake;
pub mod counter;
pub mod idle_states;
pub mod kernel_counts;
pub mod meter;
pub mod perf_event;
pub mod ring_buffer;
pub mod span_log;
pub mod switch_log;
