//! Blocking reads and writes on disks of different latencies.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Call, Files, nothing_measured};
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::experiments::stopwatch::{CPU, Length, OFF_CPU, TIME};
use crate::study::machine::Machine;
use crate::study::places::{Place, name_of};
use crate::study::plot::Plot;
use crate::study::results::Results;

const MICROSECONDS: [u64; 4] = [50, 200, 1000, 10_000];

const CALLS: [Call; 3] = [Call::CachedRead, Call::DirectRead, Call::DirectWrite];

/// The experiment.
#[derive(Default)]
pub struct Latencies {
    /// The files are closed before their file system is unmounted.
    state: Vec<(Duration, Files, Place)>,
}

fn ns(latency: Duration) -> f64 {
    latency.as_nanos() as f64
}

impl Experiment for Latencies {
    fn about(&self) -> About {
        About {
            question: 1,
            id: "blocking-latencies",
            title: "Blocking calls on disks of different latencies",
            method: "One thread reads and writes 4 KiB of files on FUSE file systems that answer \
                     after 50 us, 200 us, 1 ms and 10 ms. The way to the process that serves the \
                     file system and back comes on top.",
            weight: (2.6, 20.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        super::fuse_is_usable()
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        for us in MICROSECONDS {
            let latency = Duration::from_micros(us);
            let added = Place::slow(&machine.bench.dir, latency, 2, 1 << 20).and_then(|place| {
                let files = Files::open(&place.dir.join("0"), &place.dir.join("1"), true)?;
                Ok((latency, files, place))
            });
            match added {
                Ok(state) => self.state.push(state),
                Err(error) => {
                    notes.push(format!("not measured with {}: {error:#}", name_of(latency)));
                }
            }
        }
        let cells = self.state.iter().flat_map(|(latency, files, _)| {
            let possible = CALLS.into_iter().filter(|&call| files.can(call));
            possible.map(|call| Cell::of(call.name()).at("latency", ns(*latency)))
        });
        Ok(cells.collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let latency = cell.number("latency").context("no latency")?;
        let mut disks = self.state.iter_mut();
        let disk = disks.find(|(of, ..)| ns(*of) == latency);
        let (_, files, _) = disk.context("no such disk")?;
        let length = Length {
            time: Duration::from_millis(machine.pick((15, 40))),
            least: 3,
            most: 5000,
        };
        let call = Call::named(&cell.contender)?;
        Ok(files.measure(call, 4096, length)?.sample())
    }

    fn answer(&self, results: &Results) -> Answer {
        let latencies = results.positions("latency");
        let direct = |latency: Option<&Position>, figure| {
            let point = [("latency", latency?.clone())];
            results.estimate(Call::DirectRead.name(), &point, figure)
        };
        let (first, last) = (latencies.first(), latencies.last());
        let shortest_and_longest = direct(first, TIME).zip(direct(last, TIME));
        let cpu = direct(first, CPU).zip(direct(last, CPU));
        let Some(((short, long), (short_cpu, long_cpu))) = shortest_and_longest.zip(cpu) else {
            return Answer::new(nothing_measured("disks of different latencies"));
        };
        let slower = long.value / short.value;
        let dearer = long_cpu.value / short_cpu.value;
        let grows = if dearer < slower / 2.0 {
            "but the processor time does not grow with it"
        } else {
            "and the processor time grows with it"
        };
        Answer::new(format!(
            "A blocking read of 4 KiB returns after {{short}} on the fastest of these disks and \
             after {{long}} on the slowest, {grows}: {{short CPU}} and {{long CPU}}. The thread is \
             off the processor for {{off short}} and {{off long}} of the time, which is what \
             asynchronous I/O can use."
        ))
        .with("short", Some(short))
        .with("long", Some(long))
        .with("short CPU", Some(short_cpu))
        .with("long CPU", Some(long_cpu))
        .with("off short", direct(first, OFF_CPU))
        .with("off long", direct(last, OFF_CPU))
        .plot(Plot::lines(
            "Time until the call returns",
            "latency",
            TIME,
            true,
        ))
        .plot(Plot::lines(
            "Processor time of the call",
            "latency",
            CPU,
            true,
        ))
        .plot(Plot::lines(
            "Time off the processor",
            "latency",
            OFF_CPU,
            false,
        ))
    }
}
