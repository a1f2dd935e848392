//! The cost and the time of submitting and completing reads, by mechanism.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::contender::Contender;
use super::mechanism::Request;
use crate::bench::data_file::data_file;
use crate::study::answer::{Answer, Better};
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::instruments::meter::{Whose, cpu_ns, now_ns};
use crate::study::latency::Latency;
use crate::study::machine::Machine;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const SUBMIT: &str = "processor time to submit a read";
const RETURN: &str = "time until submitting a read returns";
const COMPLETE: &str = "time until the batch is complete";
const EACH: &str = "time of a read in its batch";
const CPU: &str = "CPU";

const DEPTHS: [u32; 3] = [1, 8, 32];

const DIRECT: &str = "O_DIRECT";
const CACHED: &str = "cached";

/// The part of the file that cached reads meet.
const CACHED_PART: u64 = 8 << 20;

/// The least and the most batches of a measurement.
const BATCHES: (u64, u64) = (2, 2000);

/// The experiment.
#[derive(Default)]
pub struct Submission {
    state: Option<State>,
}

struct State {
    cached: File,
    direct: Option<File>,
    size: u64,
    next: u64,
}

impl State {
    /// Opens the file and reads the part that is to be cached.
    fn open(path: &Path) -> Result<State> {
        let open = |flags| {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(flags).open(path)
        };
        let cached = open(0).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(State {
            size: cached.metadata()?.len(),
            cached,
            direct: open(libc::O_DIRECT).ok(),
            next: 0,
        })
    }

    fn file(&self, cache: &str) -> Result<&File> {
        match cache {
            CACHED => Ok(&self.cached),
            _ => self.direct.as_ref().context("no O_DIRECT here"),
        }
    }

    /// Fills `requests` with reads of the next blocks of the file, at random.
    fn choose(&mut self, requests: &mut [Request], cache: &str) {
        let size = match cache {
            CACHED => CACHED_PART,
            _ => self.size,
        };
        for request in requests {
            let blocks = size / request.size as u64;
            // Multiples of a large prime number meet blocks in no order that a disk would notice.
            self.next = self.next.wrapping_add(2_654_435_761);
            request.offset = self.next % blocks * request.size as u64;
        }
    }
}

/// What one cell demands.
struct Point {
    who: Contender,
    size: usize,
    depth: usize,
}

impl Point {
    fn of(cell: &Cell) -> Result<Point> {
        Ok(Point {
            who: Contender::named(&cell.contender)?,
            size: cell.number("size").context("no size")? as usize,
            depth: cell.number("depth").context("no depth")? as usize,
        })
    }
}

impl Experiment for Submission {
    fn about(&self) -> About {
        About {
            question: 3,
            id: "asynchronous-reads",
            title: "Asynchronous reads by mechanism",
            method: "One thread submits a batch of random reads, in one call where the mechanism \
                     has one, waits until all are complete, and submits the next. Processor time \
                     is that of the whole process, with the kernel's worker threads of the rings.",
            weight: (8.5, 85.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let path = data_file(&machine.bench.dir, machine.pick((128, 512)))?;
        let mut state = State::open(&path)?;
        let mut at = 0;
        let mut part = vec![0; 1 << 20];
        while at < CACHED_PART {
            state.cached.read_exact_at(&mut part, at)?;
            at += part.len() as u64;
        }
        let sizes: &[u32] = machine.pick((&[4096, 65536], &[4096, 65536, 1 << 20]));
        let mut cells = Vec::new();
        for cache in [DIRECT, CACHED] {
            let able = Contender::ALL.into_iter().filter(|&who| {
                let tried = try_out(&mut state, who, cache);
                if let Err(error) = &tried {
                    let (name, needs) = (who.name(), who.needs());
                    notes.push(format!("no {cache} reads by {name}{needs}: {error:#}"));
                }
                tried.is_ok()
            });
            let able: Vec<Contender> = able.collect();
            for &size in sizes {
                for depth in DEPTHS {
                    let at = |who: &Contender| {
                        let cell = Cell::of(who.name()).at("size", size);
                        cell.at("depth", depth).at("cache", cache)
                    };
                    cells.extend(able.iter().map(at));
                }
            }
        }
        self.state = Some(state);
        Ok(cells)
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let state = self.state.as_mut().context("not prepared")?;
        let time = Duration::from_millis(machine.pick((6, 20)));
        measure(state, &Point::of(cell)?, cell.word("cache"), time)
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

/// Makes one read, to see whether it is possible.
fn try_out(state: &mut State, who: Contender, cache: &str) -> Result<()> {
    let point = Point {
        who,
        size: 4096,
        depth: 1,
    };
    measure(state, &point, cache, Duration::ZERO).map(drop)
}

fn measure(state: &mut State, point: &Point, cache: &str, time: Duration) -> Result<Sample> {
    let fd = state.file(cache)?.as_raw_fd();
    let mut mechanism = point.who.make(fd, point.depth, point.size)?;
    let mut requests: Vec<Request> = (0..point.depth)
        .map(|slot| Request {
            slot,
            offset: 0,
            size: point.size,
        })
        .collect();
    // The first batch starts what the mechanism needs: threads, for example.
    state.choose(&mut requests, cache);
    mechanism.submit(&requests)?;
    mechanism.wait(point.depth)?;

    let clock = cpu_clock_ns();
    let mut latency = Latency::new();
    let (mut submit, mut returned, mut complete) = (0, 0, 0);
    let mut batches = 0;
    let start = Instant::now();
    let cpu = cpu_ns(Whose::Process);
    while batches < BATCHES.1 && (batches < BATCHES.0 || start.elapsed() < time) {
        state.choose(&mut requests, cache);
        let (began_cpu, began) = (cpu_ns(Whose::Thread), now_ns());
        mechanism.submit(&requests)?;
        let back = now_ns();
        let back_cpu = cpu_ns(Whose::Thread);
        mechanism.wait(point.depth)?;
        let done = now_ns();
        submit += (back_cpu - began_cpu).saturating_sub(clock);
        returned += back - began;
        complete += (done - began).saturating_sub(clock);
        latency.add((done - began).saturating_sub(clock), 1);
        batches += 1;
    }
    let cpu = (cpu_ns(Whose::Process) - cpu).saturating_sub(2 * clock * batches);
    let each = |sum: u64| sum as f64 / (batches * point.depth as u64) as f64;
    Ok(Sample::of(SUBMIT, Unit::Nanoseconds, each(submit))
        .and(RETURN, Unit::Nanoseconds, each(returned))
        .and(
            COMPLETE,
            Unit::Nanoseconds,
            complete as f64 / batches as f64,
        )
        .and(EACH, Unit::Nanoseconds, each(complete))
        .and(CPU, Unit::Nanoseconds, each(cpu))
        .with_latency(latency))
}

/// What reading the thread's processor clock takes: a system call, the least of many.
fn cpu_clock_ns() -> u64 {
    let round = |_| {
        let before = cpu_ns(Whose::Thread);
        cpu_ns(Whose::Thread) - before
    };
    (0..200).map(round).min().unwrap_or_default()
}

/// The mechanism that the sentence is about: the first of these that was measured. It is not the
/// fastest one, which may be another in the next run.
fn subject(results: &Results, point: &[(&str, Position)]) -> Option<Contender> {
    let order = [Contender::Uring, Contender::LinuxAio, Contender::Pool];
    let measured = |who: &Contender| results.estimate(who.name(), point, EACH).is_some();
    order.into_iter().find(measured)
}

fn answer(results: &Results) -> Answer {
    let point = |depth: u32, cache: &str| {
        [
            ("size", Position::from(4096)),
            ("depth", Position::from(depth)),
            ("cache", Position::from(cache)),
        ]
    };
    let deep = point(32, DIRECT);
    let Some(subject) = subject(results, &deep) else {
        return Answer::new("No asynchronous read could be measured.");
    };
    let blocking = Contender::Blocking.name();
    let ratio = |who: Contender, at: &[(&str, Position)], figure| {
        results.ratio(who.name(), blocking, at, figure)
    };
    let alone = point(1, DIRECT);
    let cached = point(1, CACHED);
    let time = ratio(subject, &deep, EACH);
    let gains = time.is_some_and(|ratio| ratio.value < 1.0);
    let loses = ratio(subject, &cached, EACH).is_some_and(|ratio| ratio.value > 1.0);
    let sentence = format!(
        "32 O_DIRECT reads of 4 KiB at once by {} {} {{deep}} the time of pread one after the \
         other, and {{deep CPU}} the processor time; one alone takes {{alone}}. Submitting a read \
         costs {{submit}} and returns after {{return}}. On cached data it {} pread: {{cached}} the \
         time.",
        subject.name(),
        if gains { "take only" } else { "take" },
        if loses {
            "loses to"
        } else {
            "does not lose to"
        },
    );
    let of_subject = |figure| results.estimate(subject.name(), &deep, figure);
    let lower = Better::Lower;
    let by_depth = |title: &str, figure: &str, cache: &str| {
        let lines = Plot::lines(title, "depth", figure, true);
        lines.only("size", 4096).only("cache", cache)
    };
    Answer::new(sentence)
        .judged("deep", time, lower)
        .judged("deep CPU", ratio(subject, &deep, CPU), lower)
        .judged("alone", ratio(subject, &alone, EACH), lower)
        .judged("cached", ratio(subject, &cached, EACH), lower)
        .with("submit", of_subject(SUBMIT))
        .with("return", of_subject(RETURN))
        .plot(by_depth("O_DIRECT, 4 KiB: time of a read", EACH, DIRECT))
        .plot(by_depth(
            "O_DIRECT, 4 KiB: processor time of a read",
            CPU,
            DIRECT,
        ))
        .plot(by_depth(
            "O_DIRECT, 4 KiB: processor time to submit",
            SUBMIT,
            DIRECT,
        ))
        .plot(by_depth("Cached, 4 KiB: time of a read", EACH, CACHED))
        .plot(
            Plot::lines("O_DIRECT, 32 at once: time of a read", "size", EACH, true)
                .only("depth", 32)
                .only("cache", DIRECT),
        )
}

#[cfg(test)]
mod tests {
    use super::{CACHED, CPU, DIRECT, EACH, answer};
    use crate::study::cell::{Cell, Sample};
    use crate::study::results::{CellResults, Results};
    use crate::study::unit::Unit;

    #[test]
    fn the_sentence_follows_the_figures() {
        let sentence = |uring: f64| {
            let mut results = Results::default();
            for (cache, depth) in [(DIRECT, 32), (CACHED, 1)] {
                for (name, ns) in [("pread", 100.0), ("io_uring", uring)] {
                    let cell = Cell::of(name).at("size", 4096).at("depth", depth);
                    let mut cell = CellResults::new(cell.at("cache", cache));
                    let sample = Sample::of(EACH, Unit::Nanoseconds, ns);
                    cell.add(0, sample.and(CPU, Unit::Nanoseconds, ns));
                    cell.summarise();
                    results.0.push(cell);
                }
            }
            answer(&results).sentence
        };
        assert!(sentence(50.0).contains("take only {deep}"));
        assert!(sentence(50.0).contains("it does not lose to pread"));
        assert!(sentence(150.0).contains("take {deep}"));
        assert!(sentence(150.0).contains("it loses to pread"));
    }
}
