//! What the interrupts of reads cost: how many there are, and how long their handlers run.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::data_file::data_file;
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::experiments::asynchronous::{Contender, Request};
use crate::study::experiments::stopwatch::CPU;
use crate::study::instruments::awake::Awake;
use crate::study::instruments::kernel_counts::KernelCounts;
use crate::study::instruments::meter::{Meter, Whose};
use crate::study::instruments::span_log::SpanLog;
use crate::study::machine::Machine;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const DEVICES: &str = "interrupts of devices";
const SOFT: &str = "soft interrupts of block devices";
const HARD_TIME: &str = "time in interrupts";
const SOFT_TIME: &str = "time in soft interrupts of block devices";
const TICKS: &str = "clock ticks in interrupts, a second";

const ONE: &str = "one read after the other";
const MANY: &str = "32 reads at once";
const DEPTH: usize = 32;
const BLOCK: usize = 4096;

/// The number of BLOCK among the soft interrupts.
const OF_BLOCK: &str = "vec == 4";

/// The experiment.
#[derive(Default)]
pub struct Interrupts {
    state: Option<State>,
}

struct State {
    file: File,
    size: u64,
    /// The handlers of interrupts and of the soft interrupts of block devices, if they are visible.
    handlers: Option<(SpanLog, SpanLog)>,
    next: u64,
}

impl Experiment for Interrupts {
    fn about(&self) -> About {
        About {
            question: 4,
            id: "interrupts",
            title: "Interrupts of reads",
            method: "O_DIRECT reads of 4 KiB, one after the other by pread and 32 at once by \
                     asynchronous I/O. /proc/interrupts, /proc/softirqs and /proc/stat count for \
                     the whole machine; as root, tracepoints time the handlers. A thread of the \
                     idle class keeps each processor awake, or they would not be recorded.",
            weight: (1.5, 12.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        match KernelCounts::read().soft_interrupts.is_empty() {
            true => Err("the kernel does not show /proc/softirqs".to_owned()),
            false => Ok(()),
        }
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let path = data_file(&machine.bench.dir, machine.pick((128, 512)))?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECT);
        let file = options
            .open(&path)
            .context("this file system has no O_DIRECT")?;
        let hard = SpanLog::between("irq/irq_handler_entry", "irq/irq_handler_exit", None);
        let soft = SpanLog::between("irq/softirq_entry", "irq/softirq_exit", Some(OF_BLOCK));
        let handlers = hard.and_then(|hard| Ok((hard, soft?)));
        if let Err(error) = &handlers {
            notes.push(format!(
                "the handlers cannot be timed: tracepoints: {error}"
            ));
        }
        let counts = KernelCounts::read();
        if counts.of_devices() == 0 {
            notes.push("/proc/interrupts shows no interrupts of devices".to_owned());
        }
        self.state = Some(State {
            size: file.metadata()?.len(),
            file,
            handlers: handlers.ok(),
            next: 0,
        });
        Ok(vec![Cell::of(ONE), Cell::of(MANY)])
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let state = self.state.as_mut().context("not prepared")?;
        let time = Duration::from_millis(machine.pick((40, 100)));
        let (depth, order) = match cell.contender.as_str() {
            ONE => (1, &[Contender::Blocking][..]),
            _ => (
                DEPTH,
                &[Contender::Uring, Contender::LinuxAio, Contender::Pool][..],
            ),
        };
        state.measure(depth, order, time)
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

impl State {
    /// Reads for `time` by the first of `order` that works here.
    fn measure(&mut self, depth: usize, order: &[Contender], time: Duration) -> Result<Sample> {
        let fd = self.file.as_raw_fd();
        let mut ways = order.iter().map(|who| who.make(fd, depth, BLOCK));
        let mut mechanism = ways.find_map(Result::ok).context("no mechanism")?;
        let blocks = self.size / BLOCK as u64;
        let mut requests: Vec<Request> = (0..depth)
            .map(|slot| Request {
                slot,
                offset: 0,
                size: BLOCK,
            })
            .collect();
        let awake = Awake::start();
        if let Some((hard, soft)) = &mut self.handlers {
            hard.take();
            soft.take();
        }
        let counts = KernelCounts::read();
        let mut reads = 0;
        let start = Instant::now();
        let meter = Meter::start(Whose::Thread);
        while start.elapsed() < time {
            for request in &mut requests {
                // Multiples of a large prime number meet blocks in no particular order.
                self.next = self.next.wrapping_add(2_654_435_761);
                request.offset = self.next % blocks * BLOCK as u64;
            }
            mechanism.submit(&requests)?;
            mechanism.wait(depth)?;
            reads += depth as u64;
        }
        let usage = meter.stop();
        drop(awake);
        let counts = KernelCounts::read().since(&counts);
        let each = |count: u64| count as f64 / reads as f64;
        let soft = counts
            .soft_interrupts
            .get("BLOCK")
            .copied()
            .unwrap_or_default();
        let ticks = counts.interrupt_ticks as f64 / usage.wall * 1e9;
        let sample = Sample::of(CPU, Unit::Nanoseconds, usage.per(reads).cpu)
            .and(DEVICES, Unit::Count, each(counts.of_devices()))
            .and(SOFT, Unit::Count, each(soft))
            .and(TICKS, Unit::Count, ticks);
        Ok(match &mut self.handlers {
            Some((hard, soft)) => sample
                .and(HARD_TIME, Unit::Nanoseconds, each(hard.take().ns))
                .and(SOFT_TIME, Unit::Nanoseconds, each(soft.take().ns)),
            None => sample,
        })
    }
}

fn answer(results: &Results) -> Answer {
    let at = |name: &str, figure| results.estimate(name, &[], figure);
    let Some((one, many)) = at(ONE, DEVICES).zip(at(MANY, DEVICES)) else {
        return Answer::new("The interrupts of reads could not be counted.");
    };
    let fewer = many.value < 0.9 * one.value;
    let mut sentence = format!(
        "A device interrupts the processor {{one}} times for each read if one follows the other, \
         and {{many}} times if 32 are under way{}.",
        if fewer {
            ": several completions share an interrupt"
        } else {
            ""
        }
    );
    if at(ONE, SOFT_TIME).is_some() {
        sentence += " The handlers take {hard} and {soft} of a read by itself, and {hard many} \
                     and {soft many} of one of 32, beside {CPU} and {CPU many} of processor time \
                     of the thread.";
    }
    Answer::new(sentence)
        .with("one", Some(one))
        .with("many", Some(many))
        .with("hard", at(ONE, HARD_TIME))
        .with("soft", at(ONE, SOFT_TIME))
        .with("hard many", at(MANY, HARD_TIME))
        .with("soft many", at(MANY, SOFT_TIME))
        .with("CPU", at(ONE, CPU))
        .with("CPU many", at(MANY, CPU))
        .plot(Plot::bars(
            "Interrupts of devices for each read",
            DEVICES,
            false,
        ))
        .plot(Plot::bars(
            "Time in interrupts for each read",
            HARD_TIME,
            false,
        ))
        .plot(Plot::bars(
            "Time in soft interrupts for each read",
            SOFT_TIME,
            false,
        ))
}
