//! How long it takes a thread to learn of a completion, and what that costs, by the way it waits.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::waits::{AioPoll, BlockingRead, Epoll, Notice, Ring, Signal, Wait};
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Sample};
use crate::study::estimate::median;
use crate::study::experiment::{About, Experiment};
use crate::study::experiments::late_writer::LateWriter;
use crate::study::experiments::stopwatch::{CPU, SWITCHES};
use crate::study::instruments::meter::{Meter, Whose, now_ns};
use crate::study::latency::Latency;
use crate::study::machine::Machine;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const ANSWER: &str = "time until the thread has it";

const READ: &str = "blocking read";
const EPOLL: &str = "epoll_wait";
const ENTER: &str = "io_uring, blocking wait";
const PEEK: &str = "io_uring, ring peek";
const EVENTFD: &str = "io_uring, eventfd";
const AIO: &str = "io_getevents";
const SIGNAL: &str = "signal";

const ALL: [&str; 7] = [READ, EPOLL, ENTER, PEEK, EVENTFD, AIO, SIGNAL];

/// How long after it was asked for the byte comes: the thread sleeps by then.
const DELAY: Duration = Duration::from_micros(100);

/// The experiment.
#[derive(Default)]
pub struct Answering {
    writer: Option<LateWriter>,
}

fn make(name: &str, fd: RawFd) -> Result<Box<dyn Wait>> {
    Ok(match name {
        READ => Box::new(BlockingRead(fd)),
        EPOLL => Box::new(Epoll::new(fd)?),
        ENTER => Box::new(Ring::new(fd, Notice::Enter)?),
        PEEK => Box::new(Ring::new(fd, Notice::Peek)?),
        EVENTFD => Box::new(Ring::new(fd, Notice::Eventfd)?),
        AIO => Box::new(AioPoll::new(fd)?),
        SIGNAL => Box::new(Signal::new(fd)?),
        _ => bail!("no way {name:?}"),
    })
}

impl Experiment for Answering {
    fn about(&self) -> About {
        About {
            question: 4,
            id: "answering-completions",
            title: "Learning of a completion",
            method: "A second thread writes a byte into a pipe 100 us after it was asked to. The \
                     time runs from just before the write until the first thread has the byte. \
                     Processor time is that of the first thread, with starting the operation.",
            weight: (1.8, 15.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let writer = LateWriter::start(DELAY)?;
        let mut names = Vec::new();
        for name in ALL {
            if name == PEEK && machine.processors < 2 {
                notes.push(format!(
                    "{name}: looking at the ring needs a second processor"
                ));
                continue;
            }
            match make(name, writer.fd()).and_then(|mut wait| answer_once(&mut *wait, &writer)) {
                Ok(_) => names.push(name),
                Err(error) => notes.push(format!("{name}: {error:#}")),
            }
        }
        self.writer = Some(writer);
        Ok(names.into_iter().map(Cell::of).collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let writer = self.writer.as_ref().context("not prepared")?;
        let mut wait = make(&cell.contender, writer.fd())?;
        let time = Duration::from_millis(machine.pick((15, 40)));
        let mut latency = Latency::new();
        let mut times = Vec::new();
        let start = Instant::now();
        let meter = Meter::start(Whose::Thread);
        while times.len() < 10 || start.elapsed() < time {
            let ns = answer_once(&mut *wait, writer)?;
            latency.add(ns, 1);
            times.push(ns as f64);
        }
        let usage = meter.stop().per(times.len() as u64);
        // A single preemption takes longer than all answers, so the mean would say little.
        let typical = median(&mut times).context("no answer")?;
        Ok(Sample::of(ANSWER, Unit::Nanoseconds, typical)
            .and(CPU, Unit::Nanoseconds, usage.cpu)
            .and(SWITCHES, Unit::Count, usage.voluntary)
            .with_latency(latency))
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

/// Asks for a byte and waits for it. Returns the nanoseconds from its write.
fn answer_once(wait: &mut dyn Wait, writer: &LateWriter) -> Result<u64> {
    wait.start()?;
    writer.ask()?;
    wait.finish()?;
    let now = now_ns();
    Ok(now.saturating_sub(writer.wrote_ns()))
}

fn answer(results: &Results) -> Answer {
    let time = |name: &str| results.estimate(name, &[], ANSWER);
    let mut sleeping: Vec<(&str, f64)> = ALL
        .into_iter()
        .filter(|&name| name != PEEK)
        .filter_map(|name| Some((name, time(name)?.value)))
        .collect();
    sleeping.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (Some(&(fast, _)), Some(&(slow, _))) = (sleeping.first(), sleeping.last()) else {
        return Answer::new("Answering a completion could not be measured.");
    };
    let mut sentence = format!(
        "A sleeping thread has a completion {{fast}} after it happened if it waits by {fast}, and \
         {{slow}} by {slow}"
    );
    let looks = time(PEEK).zip(time(fast));
    if let Some((peek, best)) = looks {
        sentence += if peek.value < best.value {
            "; a thread that looks at the ring all the time has it {peek} after, but uses {peek \
             CPU} of processor time, not {fast CPU}"
        } else {
            "; a thread that looks at the ring all the time gains nothing ({peek})"
        };
    }
    Answer::new(sentence + ".")
        .with("fast", time(fast))
        .with("slow", time(slow))
        .with("fast CPU", results.estimate(fast, &[], CPU))
        .with("peek", time(PEEK))
        .with("peek CPU", results.estimate(PEEK, &[], CPU))
        .plot(Plot::bars(
            "Time until the thread has the completion",
            ANSWER,
            false,
        ))
        .plot(Plot::bars(
            "Processor time to start and to answer",
            CPU,
            true,
        ))
        .plot(Plot::latency("Time until the thread has the completion"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ALL, LateWriter, answer_once, make};

    #[test]
    fn each_way_gets_every_byte() {
        let writer = LateWriter::start(Duration::from_millis(1)).expect("a thread");
        for name in ALL {
            let mut wait = match make(name, writer.fd()) {
                Ok(wait) => wait,
                Err(error) => {
                    eprintln!("skipped: {name}: {error:#}");
                    continue;
                }
            };
            for _ in 0..3 {
                answer_once(&mut *wait, &writer).expect(name);
            }
        }
    }
}
