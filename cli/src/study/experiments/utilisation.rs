//! Question 9, the hypothesis: how much of its own work a thread gets done while its I/O is under
//! way.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::requests::{By, Requests};
use crate::bench::data_file::data_file;
use crate::bench::work::turns_per_us;
use crate::study::answer::{Answer, Better, Direction};
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::machine::Machine;
use crate::study::places::{Place, name_of};
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const ONE: &str = "1 blocking thread";
const THREADS: &str = "256 blocking threads";
const FIBERS: &str = "256 fibers on 1 thread";
const CONTENDERS: [(&str, By, u32); 3] = [
    (ONE, By::Threads, 1),
    (THREADS, By::Threads, 256),
    (FIBERS, By::Fibers { workers: 1 }, 256),
];

/// Microseconds of work after each read.
const WORK_US: f64 = 20.0;

/// The figure of this experiment.
const WORK: &str = "work";

const LATENCIES_US: [u64; 4] = [50, 200, 1000, 5000];
const FEW_LATENCIES_US: [u64; 2] = [200, 5000];

/// The disk of --dir, the first place.
const DISK: &str = "disk";

/// Work and I/O on one processor.
#[derive(Default)]
pub struct Utilisation {
    turns_per_us: f64,
    /// The name of each place, its file, and its mount if the study made it.
    places: Vec<(String, PathBuf, Option<Place>)>,
}

impl Experiment for Utilisation {
    fn about(&self) -> About {
        About {
            question: 9,
            id: "utilisation",
            title: "The work of a thread while its I/O is under way",
            method: "On one processor, each request reads 4 KiB with O_DIRECT and then computes \
                for 20 us: one request after the other by one blocking thread, or 256 at a time by \
                threads or by fibers on one thread. The figure is the part of the time that went \
                into the computation. Disks with a fixed latency are FUSE file systems, which are \
                served by another process.",
            weight: (7.0, 80.0),
        }
    }

    fn available(&self, machine: &Machine) -> Result<(), String> {
        let fibers = machine.bench.ensure_fibers_can_wait("fibers");
        fibers.map_err(|error| format!("{error:#}"))
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        self.turns_per_us = turns_per_us(&machine.bench)?;
        let file = data_file(&machine.bench.dir, machine.pick((128, 512)))?;
        self.places.push((DISK.to_owned(), file, None));
        let latencies: &[u64] = machine.pick((&FEW_LATENCIES_US, &LATENCIES_US));
        for &us in latencies {
            let latency = Duration::from_micros(us);
            match Place::slow(&machine.bench.dir, latency, 1, 64 << 20) {
                Ok(place) => {
                    let file = place.dir.join("0");
                    self.places.push((name_of(latency), file, Some(place)));
                }
                Err(error) => {
                    notes.push(format!("not measured with {}: {error:#}", name_of(latency)))
                }
            }
        }
        let cells = self.places.iter().flat_map(|(name, ..)| {
            CONTENDERS.map(|(contender, ..)| Cell::of(contender).at("latency of", name.as_str()))
        });
        Ok(cells.collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let place = cell.word("latency of");
        let file = self.places.iter().find(|(name, ..)| name == place);
        let (_, file, _) = file.context("no such place")?;
        let by = CONTENDERS.iter().find(|(name, ..)| *name == cell.contender);
        let &(_, by, count) = by.context("no such contender")?;
        let told = Requests {
            by,
            count,
            processors: 1,
            ms: machine.pick((60, 150)),
            bytes: 4096,
            cache: "direct",
            turns: (WORK_US * self.turns_per_us) as u64,
            file,
        }
        .run(&machine.bench)?;
        let work = told.phase.rate() * WORK_US * 1e-6;
        Ok(told.sample().and(WORK, Unit::Share, work))
    }

    fn answer(&self, results: &Results) -> Answer {
        let places = results.positions("latency of");
        let Some(slowest) = places.last() else {
            return Answer::new("Nothing of the work of a thread could be measured.");
        };
        let disk = [("latency of", Position::from(DISK))];
        let slow = [("latency of", slowest.clone())];
        let of = |contender, point: &[(&str, Position)]| results.estimate(contender, point, WORK);
        let fibers_to_one = results.ratio(FIBERS, ONE, &disk, WORK);
        let fibers_to_threads = results.ratio(FIBERS, THREADS, &disk, WORK);
        let holds = |ratio| match Option::map(ratio, |r| Direction::of(&r, Better::Higher)) {
            Some(Direction::AsyncWins) => "confirmed",
            Some(Direction::AsyncLoses) => "denied",
            _ => "neither confirmed nor denied",
        };
        let versus_threads = match fibers_to_threads.map(|r| Direction::of(&r, Better::Higher)) {
            Some(Direction::AsyncWins) => "which is more than the {threads} of 256 threads",
            Some(Direction::AsyncLoses) => "but 256 threads get {threads}",
            _ => "as do 256 threads ({threads})",
        };
        let mut sentence = format!(
            "With the reads of the disk here, a thread that blocks spends {{one}} of its \
             processor's time on its own work; with 256 reads under way it gets {{fibers}}, \
             {versus_threads}."
        );
        if places.len() > 1 {
            sentence += &format!(
                " With a latency of {slowest}, they get {{one slow}}, {{fibers slow}} and \
                 {{threads slow}}."
            );
        }
        Answer::new(sentence)
            .verdict(format!(
                "The hypothesis that asynchronous I/O makes better use of a thread is {} here: \
                 while its disk reads are under way, one thread spends {{fibers}} of its time on \
                 its own work, but {{one}} if it blocks in each read ({{gain}}).",
                holds(fibers_to_one)
            ))
            .judged("gain", fibers_to_one, Better::Higher)
            .judged("gain over threads", fibers_to_threads, Better::Higher)
            .judged(
                "gain slow",
                results.ratio(FIBERS, ONE, &slow, WORK),
                Better::Higher,
            )
            .judged(
                "gain over threads slow",
                results.ratio(FIBERS, THREADS, &slow, WORK),
                Better::Higher,
            )
            .with("one", of(ONE, &disk))
            .with("fibers", of(FIBERS, &disk))
            .with("threads", of(THREADS, &disk))
            .with("one slow", of(ONE, &slow))
            .with("fibers slow", of(FIBERS, &slow))
            .with("threads slow", of(THREADS, &slow))
            .plot(Plot::lines(
                "Part of the time that goes into the program's own work",
                "latency of",
                WORK,
                false,
            ))
            .plot(Plot::lines(
                "99th percentile of a read",
                "latency of",
                "p99",
                true,
            ))
    }
}
