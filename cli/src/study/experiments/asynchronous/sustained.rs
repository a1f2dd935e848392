//! Reads without a pause, 128 at once: a loop over io_uring written by hand, fibers, threads and
//! fio.
//!
//! The loop is the limit, because it only refills the ring.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::mechanism::{Request, Slots};
use super::uring::{Setup, Uring};
use crate::bench::data_file::data_file;
use crate::bench::fio::{Fio, Job};
use crate::bench::live::Hello;
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::study::answer::{Answer, Better};
use crate::study::cell::{Cell, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::instruments::meter::{Meter, Whose};
use crate::study::machine::Machine;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const DEPTH: u32 = 128;
const BLOCK: usize = 4096;

const RATE: &str = "reads a second";
const CPU: &str = "CPU";

const LOOP: &str = "loop over io_uring";
const REGISTERED: &str = "loop over io_uring, registered";
const FIBERS: &str = "fibers";
const THREADS: &str = "threads";
const FIO: &str = "fio";

/// The experiment.
#[derive(Default)]
pub struct Sustained {
    path: PathBuf,
    fio: Option<Fio>,
}

impl Experiment for Sustained {
    fn about(&self) -> About {
        About {
            question: 3,
            id: "sustained-reads",
            title: "128 reads at once, without a pause",
            method: "Random O_DIRECT reads of 4 KiB by a loop over io_uring written by hand, with \
                     and without registered files and buffers, by fibers on one worker with the \
                     shim, by threads and by fio. Each keeps 128 reads under way.",
            weight: (4.5, 45.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        self.path = data_file(&machine.bench.dir, machine.pick((128, 512)))?;
        open(&self.path).context("this file system has no O_DIRECT")?;
        let mut names = Vec::new();
        for registered in [false, true] {
            let name = name_of_loop(registered);
            match refill(&self.path, registered, Duration::ZERO) {
                Ok(_) => names.push(name),
                Err(error) => notes.push(format!("no {name}: {error:#}")),
            }
        }
        match machine.bench.ensure_fibers_can_wait("reads by fibers") {
            Ok(()) => names.push(FIBERS),
            Err(error) => notes.push(format!("{error:#}")),
        }
        names.push(THREADS);
        self.fio = Fio::find();
        match self.fio {
            Some(_) => names.push(FIO),
            None => notes.push("fio is not installed: apt-get install fio".to_owned()),
        }
        Ok(names.into_iter().map(Cell::of).collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let ms = machine.pick((60, 200));
        let name = cell.contender.as_str();
        match name {
            LOOP | REGISTERED => {
                let time = Duration::from_millis(ms);
                refill(&self.path, name == REGISTERED, time)
            }
            FIO => {
                let fio = self.fio.as_ref().context("fio is not installed")?;
                let job = Job::uring(true, DEPTH);
                Ok(sample(&fio.read(&self.path, job, ms)?))
            }
            _ => program(machine, name == FIBERS, &self.path, ms),
        }
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

fn name_of_loop(registered: bool) -> &'static str {
    if registered { REGISTERED } else { LOOP }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECT).open(path)
}

/// Keeps reads under way for `time`, after a tenth of it to warm up.
fn refill(path: &Path, registered: bool, time: Duration) -> Result<Sample> {
    let file = open(path)?;
    let blocks = file.metadata()?.len() / BLOCK as u64;
    let depth = DEPTH as usize;
    let setup = Setup {
        registered,
        ..Setup::default()
    };
    let mut ring = Uring::new(file.as_raw_fd(), Slots::new(depth, BLOCK), depth, setup)?;
    let mut next: u64 = 0;
    let mut request = |slot| {
        // Multiples of a large prime number meet blocks in no order that a disk would notice.
        next = next.wrapping_add(2_654_435_761);
        Request {
            slot,
            offset: next % blocks * BLOCK as u64,
            size: BLOCK,
        }
    };
    for slot in 0..depth {
        ring.push(&request(slot))?;
    }
    let mut done = Vec::with_capacity(depth);
    let mut run = |time: Duration| -> Result<u64> {
        let start = Instant::now();
        let mut reads = 0;
        loop {
            ring.enter(1)?;
            ring.reap(&mut done)?;
            reads += done.len() as u64;
            for slot in done.drain(..) {
                ring.push(&request(slot))?;
            }
            if start.elapsed() >= time {
                return Ok(reads);
            }
        }
    };
    run(time / 10)?;
    let meter = Meter::start(Whose::Process);
    let reads = run(time)?;
    let usage = meter.stop();
    let rate = reads as f64 / usage.wall * 1e9;
    let cpu = usage.per(reads).cpu;
    Ok(Sample::of(RATE, Unit::PerSecond, rate).and(CPU, Unit::Nanoseconds, cpu))
}

/// Runs throughput.c, on fibers with the shim or on threads without it.
fn program(machine: &Machine, fibers: bool, path: &Path, ms: u64) -> Result<Sample> {
    let (kind, load) = match fibers {
        true => ("fibers", Load::Shim),
        false => ("pthreads", Load::Plain),
    };
    let programs = &machine.bench.programs;
    let mut command = programs.command(&programs.throughput, load);
    command.args([kind, &DEPTH.to_string(), &ms.to_string(), "direct"]);
    command.arg(path);
    let meant = Hello {
        preloaded: fibers,
        fiber: fibers,
    };
    Ok(sample(&Phase::of(command, "throughput", meant)?))
}

fn sample(phase: &Phase) -> Sample {
    let cpu = phase.cpu_us() * 1000.0;
    Sample::of(RATE, Unit::PerSecond, phase.rate()).and(CPU, Unit::Nanoseconds, cpu)
}

fn answer(results: &Results) -> Answer {
    let Some(fibers) = results.estimate(FIBERS, &[], CPU) else {
        return Answer::new("Reads by fibers could not be measured.");
    };
    let ratio = |base, figure| results.ratio(FIBERS, base, &[], figure);
    let above = |base| ratio(base, CPU).is_some_and(|ratio| ratio.value > 1.0);
    let sentence = format!(
        "With 128 O_DIRECT reads at once, a read by a fiber costs {{fibers}} of processor time: \
         {{loop CPU}} that of a loop over io_uring written by hand, {{registered CPU}} that of a \
         loop with registered files and buffers, and {} than by a thread: {{threads CPU}}. It \
         reads {{rate}} as fast as the loop and {{threads rate}} as fast as threads.",
        if above(THREADS) { "more" } else { "less" },
    );
    Answer::new(sentence)
        .with("fibers", Some(fibers))
        .with("loop CPU", ratio(LOOP, CPU))
        .with("registered CPU", ratio(REGISTERED, CPU))
        .judged("threads CPU", ratio(THREADS, CPU), Better::Lower)
        .with("rate", ratio(LOOP, RATE))
        .judged("threads rate", ratio(THREADS, RATE), Better::Higher)
        .plot(Plot::bars("Processor time of a read", CPU, false))
        .plot(Plot::bars("Reads a second", RATE, false))
}
