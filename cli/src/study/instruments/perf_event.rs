//! `perf_event_open(2)`: opens the kernel's events of a thread or a processor.
//!
//! `kernel.perf_event_paranoid` limits unprivileged processes; each error names the refused event.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// Software events and tracepoints, as <linux/perf_event.h> numbers them.
const TYPE_SOFTWARE: u32 = 1;
const TYPE_TRACEPOINT: u32 = 2;

/// `PERF_SAMPLE_TID | PERF_SAMPLE_TIME`: each record ends with the thread and the time.
const SAMPLE: u64 = 1 << 1 | 1 << 2;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;

/// `PERF_EVENT_IOC_SET_FILTER`.
const SET_FILTER: libc::c_ulong = 0x4008_2406;

/// Bits of [`Attributes::flags`].
const EXCLUDE_KERNEL: u64 = 1 << 5;
const SAMPLE_ID_ALL: u64 = 1 << 18;
const USE_CLOCK: u64 = 1 << 25;
const CONTEXT_SWITCH: u64 = 1 << 26;

/// An event that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nanoseconds on the processor.
    TaskClock,
    ContextSwitches,
    /// Moves to another processor.
    Migrations,
    /// No event, only the records of context switches.
    SwitchRecords,
    /// A tracepoint of this number, whose occurrences are recorded.
    Tracepoint(u64),
}

/// Whose events are counted or recorded.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    ThisThread,
    /// All threads on this processor. Only root may do that.
    Processor(u32),
}

/// `struct perf_event_attr` up to the size that Linux 4.1 introduced.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    user_registers: u64,
    user_stack: u32,
    clock: i32,
    interrupt_registers: u64,
    aux_watermark: u32,
    reserved: u32,
}

/// Opens `event` of `target`. It counts from now on.
pub fn open(event: Event, target: Target) -> io::Result<File> {
    let mut attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        kind: TYPE_SOFTWARE,
        ..Attributes::default()
    };
    match event {
        Event::TaskClock => attributes.config = 1,
        Event::ContextSwitches => attributes.config = 3,
        Event::Migrations => attributes.config = 4,
        Event::SwitchRecords => {
            attributes.config = 9;
            attributes.flags = CONTEXT_SWITCH | EXCLUDE_KERNEL;
        }
        Event::Tracepoint(number) => {
            attributes.kind = TYPE_TRACEPOINT;
            attributes.config = number;
            attributes.sample_period = 1;
        }
    }
    if matches!(event, Event::SwitchRecords | Event::Tracepoint(_)) {
        attributes.sample_type = SAMPLE;
        attributes.flags |= SAMPLE_ID_ALL | USE_CLOCK;
        attributes.clock = libc::CLOCK_MONOTONIC;
    }
    let (thread, processor) = match target {
        Target::ThisThread => (0, -1),
        Target::Processor(number) => (-1, number.cast_signed()),
    };
    // SAFETY: the structure is as the kernel defines it and lives during the call; the other
    // arguments are numbers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            thread,
            processor,
            -1,
            CLOSE_ON_EXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}

/// Lets a tracepoint's event record only what `condition` holds for, such as "vec == 4".
pub fn filter(event: &File, condition: &str) -> io::Result<()> {
    let condition = CString::new(condition)?;
    // SAFETY: the third argument of this request is a string that ends with a zero byte.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), SET_FILTER, condition.as_ptr()) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of the tracepoint `name`, such as "sched/sched_wakeup". Only root can find it.
pub fn tracepoint(name: &str) -> io::Result<Event> {
    let read = |place: &str| fs::read_to_string(format!("{place}/events/{name}/id"));
    let elsewhere = |error| read("/sys/kernel/debug/tracing").map_err(|_| error);
    let found = read("/sys/kernel/tracing").or_else(elsewhere);
    let number = found?.trim().parse();
    number.map(Event::Tracepoint).map_err(io::Error::other)
}
