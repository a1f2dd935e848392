//! Question 9: many files on a slow disk, one after the other and all at once.

use std::time::Duration;

use anyhow::{Context, Result};

use super::blocking::fuse_is_usable;
use crate::bench::live::Hello;
use crate::bench::phase::Phase;
use crate::bench::programs::Load;
use crate::study::answer::{Answer, Better};
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::machine::Machine;
use crate::study::places::Place;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const TIME: &str = "time for all files";
const LATENCIES: &str = "latencies that it took";
const CPU: &str = "CPU of a file";

const SEQUENTIAL: &str = "one reader";
const FIBERS: &str = "fibers";
const THREADS: &str = "threads";

/// The number of readers.
const AXIS: &str = "readers";
const READERS: [u32; 3] = [10, 50, FILES];

const FILES: u32 = 200;
const LATENCY: Duration = Duration::from_millis(5);

/// The experiment.
#[derive(Default)]
pub struct ManyFiles {
    place: Option<Place>,
}

impl Experiment for ManyFiles {
    fn about(&self) -> About {
        About {
            question: 9,
            id: "many-files",
            title: "200 files on a disk that answers after 5 ms",
            method: "A FUSE file system answers each read after 5 ms. A blocking thread reads the \
                     first block of 200 files one after the other; fibers on one worker, and as \
                     many threads, share the files. All files are open before the time runs.",
            weight: (9.0, 45.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        fuse_is_usable()
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        self.place = Some(Place::slow(&machine.bench.dir, LATENCY, FILES, 4096)?);
        let mut names = vec![THREADS];
        match machine.bench.ensure_fibers_can_wait("reads by fibers") {
            Ok(()) => names.push(FIBERS),
            Err(error) => notes.push(format!("{error:#}")),
        }
        let mut cells = vec![Cell::of(SEQUENTIAL).at(AXIS, 1_u32)];
        for readers in READERS {
            cells.extend(names.iter().map(|&name| Cell::of(name).at(AXIS, readers)));
        }
        Ok(cells)
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let place = self.place.as_ref().context("not prepared")?;
        let fibers = cell.contender == FIBERS;
        let (kind, load) = match fibers {
            true => ("fibers", Load::Shim),
            false => ("pthreads", Load::Plain),
        };
        let readers = cell.number(AXIS).context("no number of readers")?;
        let programs = &machine.bench.programs;
        let mut command = programs.command(&programs.task_program("manyfiles", false), load);
        command.args([kind, &readers.to_string(), &FILES.to_string(), "direct"]);
        command.arg(&place.dir);
        let meant = Hello {
            preloaded: fibers,
            fiber: fibers,
        };
        let phase = Phase::of(command, "manyfiles", meant)?;
        let latencies = phase.ns as f64 / LATENCY.as_nanos() as f64;
        Ok(Sample::of(TIME, Unit::Nanoseconds, phase.ns as f64)
            .and(LATENCIES, Unit::Count, latencies)
            .and(CPU, Unit::Nanoseconds, phase.cpu_us() * 1000.0))
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

fn answer(results: &Results) -> Answer {
    let at = |name: &str, readers: u32, figure| {
        results.estimate(name, &[(AXIS, Position::from(readers))], figure)
    };
    let sequential = at(SEQUENTIAL, 1, TIME);
    let Some((sequential, all)) = sequential.zip(at(FIBERS, FILES, TIME)) else {
        return Answer::new("Fibers on a slow disk could not be measured.");
    };
    let everybody = [(AXIS, Position::from(FILES))];
    let to_threads = results.ratio(FIBERS, THREADS, &everybody, TIME);
    let gains = all.value < sequential.value;
    let sentence = format!(
        "One thread that blocks in each read takes {{sequential}} for 200 files, {{sequential \
         latencies}} latencies; 200 fibers on one worker take {}{{fibers}}, {{fibers latencies}} \
         latencies, with {{fibers CPU}} of processor time a file. That is {{to threads}} the time \
         of 200 threads, which use {{threads CPU}}.",
        if gains { "only " } else { "" },
    );
    Answer::new(sentence)
        .with("sequential", Some(sequential))
        .with("sequential latencies", at(SEQUENTIAL, 1, LATENCIES))
        .with("fibers", Some(all))
        .with("fibers latencies", at(FIBERS, FILES, LATENCIES))
        .with("fibers CPU", at(FIBERS, FILES, CPU))
        .with("threads CPU", at(THREADS, FILES, CPU))
        .judged("to threads", to_threads, Better::Lower)
        .plot(Plot::lines("Time for 200 files", AXIS, TIME, true))
        .plot(Plot::lines("Processor time of a file", AXIS, CPU, false))
}

#[cfg(test)]
mod tests {
    use super::{AXIS, FIBERS, FILES, LATENCIES, SEQUENTIAL, TIME, answer};
    use crate::study::cell::{Cell, Sample};
    use crate::study::results::{CellResults, Results};
    use crate::study::unit::Unit;

    #[test]
    fn the_sentence_follows_the_figures() {
        let sentence = |fibers: f64| {
            let mut results = Results::default();
            for (name, readers, ns) in [(SEQUENTIAL, 1, 1000.0), (FIBERS, FILES, fibers)] {
                let mut cell = CellResults::new(Cell::of(name).at(AXIS, readers));
                let sample = Sample::of(TIME, Unit::Nanoseconds, ns);
                cell.add(0, sample.and(LATENCIES, Unit::Count, ns / 5.0));
                cell.summarise();
                results.0.push(cell);
            }
            answer(&results).sentence
        };
        assert!(sentence(10.0).contains("take only {fibers}"));
        assert!(sentence(1500.0).contains("take {fibers}"));
    }
}
