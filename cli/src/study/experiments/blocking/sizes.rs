//! Blocking calls of each size on the user's disk.

use anyhow::{Context, Result};

use super::{Call, Files, length, nothing_measured, write_data};
use crate::bench::data_file::data_file;
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::experiments::stopwatch::{CPU, TIME};
use crate::study::machine::Machine;
use crate::study::places::Place;
use crate::study::plot::Plot;
use crate::study::results::Results;

const SIZES: [u32; 6] = [1, 512, 4096, 65536, 1 << 20, 4 << 20];

/// The size of the written file.
const WRITTEN: u64 = 32 << 20;

const CALLS: [Call; 6] = [
    Call::CachedRead,
    Call::ColdRead,
    Call::DirectRead,
    Call::CachedWrite,
    Call::DirectWrite,
    Call::WriteAndSync,
];

/// The experiment.
#[derive(Default)]
pub struct Sizes {
    state: Option<(Files, Place)>,
}

impl Experiment for Sizes {
    fn about(&self) -> About {
        About {
            question: 1,
            id: "blocking-sizes",
            title: "Blocking calls from 1 byte to 4 MiB",
            method: "One thread makes pread, pwrite and fsync calls on random blocks of a file on \
                     the disk of --dir and reads the clock after each; the cost of that is \
                     subtracted. Cold reads follow posix_fadvise(DONTNEED), without readahead.",
            weight: (3.5, 22.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let read = data_file(&machine.bench.dir, machine.pick((128, 512)))?;
        let place = Place::inside(&machine.bench.dir, "")?;
        let written = place.dir.join("written");
        write_data(&written, WRITTEN)?;
        let files = Files::open(&read, &written, true)?;
        let (can, cannot): (Vec<Call>, Vec<Call>) = CALLS.into_iter().partition(|c| files.can(*c));
        for call in cannot {
            notes.push(format!("no {} on this file system", call.name()));
        }
        self.state = Some((files, place));
        let cell = |size: u32, call: Call| Cell::of(call.name()).at("size", size);
        Ok(SIZES
            .into_iter()
            .flat_map(|size| {
                let allowed = can.iter().filter(move |call| call.allows(size.into()));
                allowed.map(move |&call| cell(size, call))
            })
            .collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let (files, _) = self.state.as_mut().context("not prepared")?;
        let size = cell.number("size").context("no size")? as u64;
        let series = files.measure(Call::named(&cell.contender)?, size, length(machine))?;
        Ok(series.sample())
    }

    fn answer(&self, results: &Results) -> Answer {
        let at = |call: Call, size: u32, figure| {
            let point = [("size", Position::from(size))];
            results.estimate(call.name(), &point, figure)
        };
        let small = |call| at(call, 4096, TIME);
        let Some(cached) = small(Call::CachedRead) else {
            return Answer::new(nothing_measured("the cached reads"));
        };
        // The slowest kind of read: the thread waits for the device during it.
        let slowest = [Call::ColdRead, Call::DirectRead]
            .into_iter()
            .filter_map(|call| Some((call, small(call)?)))
            .max_by(|a, b| a.1.value.total_cmp(&b.1.value));
        let mut sentence = "A cached read returns after {cached 1} for 1 byte, {cached 4 KiB} for \
                            4 KiB and {cached 4 MiB} for 4 MiB"
            .to_owned();
        if let Some((call, time)) = slowest {
            let name = call.name();
            sentence += &if time.value > cached.value {
                format!(
                    "; a {name} of 4 KiB takes {{slow}}, {{times}} as long, of which {{slow CPU}} \
                     is processor time"
                )
            } else {
                format!("; a {name} of 4 KiB takes {{slow}} and is not slower")
            };
        }
        sentence += ".";
        if let Some(sync) = small(Call::WriteAndSync).zip(small(Call::CachedWrite)) {
            sentence += if sync.0.value > sync.1.value {
                " A write of 4 KiB takes {write}, and {sync} if fsync follows."
            } else {
                " A write of 4 KiB takes {write}; an fsync after it costs nothing here ({sync})."
            };
        }
        let slow = slowest.map(|(call, _)| call);
        let block = [("size", Position::from(4096))];
        let times =
            slow.and_then(|call| results.ratio(call.name(), Call::CachedRead.name(), &block, TIME));
        Answer::new(sentence)
            .with("cached 1", at(Call::CachedRead, 1, TIME))
            .with("cached 4 KiB", Some(cached))
            .with("cached 4 MiB", at(Call::CachedRead, 4 << 20, TIME))
            .with("slow", slow.and_then(small))
            .with("slow CPU", slow.and_then(|call| at(call, 4096, CPU)))
            .with("times", times)
            .with("write", small(Call::CachedWrite))
            .with("sync", small(Call::WriteAndSync))
            .plot(Plot::lines(
                "Time until the call returns",
                "size",
                TIME,
                true,
            ))
            .plot(Plot::lines("Processor time of the call", "size", CPU, true))
            .plot(Plot::latency("Reads and writes of 4 KiB").only("size", 4096))
    }
}
