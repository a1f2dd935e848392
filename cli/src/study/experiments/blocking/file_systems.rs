//! Blocking calls of 4 KiB on each file system that the machine has or lets root make.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Call, Files, length, nothing_measured};
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::experiments::stopwatch::{CPU, TIME};
use crate::study::machine::Machine;
use crate::study::places::mounted::FileSystem;
use crate::study::places::{Kind, Place};
use crate::study::plot::Plot;
use crate::study::results::Results;

const AXIS: &str = "file system";
const SIZE: u64 = 4096;

/// The size of each file.
const FILE: u64 = 16 << 20;

/// The latency of the FUSE file system here: none of its own, only the way to its process and back.
const NO_LATENCY: Duration = Duration::ZERO;

/// The experiment.
#[derive(Default)]
pub struct FileSystems {
    /// The files are closed before their file system is unmounted.
    state: Vec<(Files, Place)>,
}

impl FileSystems {
    /// Adds the files in `place`, or a note why there are none.
    fn add(&mut self, place: Result<Place>, what: &str, notes: &mut Vec<String>) {
        let tmpfs = what == "tmpfs";
        let added = place.and_then(|place| {
            let files = match &place.kind {
                // It has files already, and cannot create any.
                Kind::Slow(_) => Files::open(&place.dir.join("0"), &place.dir.join("1"), true)?,
                _ => Files::create(&place.dir, FILE, !tmpfs)?,
            };
            Ok((files, place))
        });
        match added {
            Ok(state) => self.state.push(state),
            Err(error) => notes.push(format!("not measured on {what}: {error:#}")),
        }
    }
}

impl Experiment for FileSystems {
    fn about(&self) -> About {
        About {
            question: 1,
            id: "blocking-file-systems",
            title: "Blocking calls of 4 KiB on different file systems",
            method: "One thread opens, reads, writes and syncs files of 16 MiB in blocks of 4 KiB, \
                     on the disk of --dir, on tmpfs, and as root on new file systems on loop \
                     devices over a file in --dir, on a RAM disk and on FUSE without a latency.",
            weight: (4.5, 28.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let dir = &machine.bench.dir;
        let own = format!("{} of --dir", machine.environment.filesystem());
        self.add(Place::inside(dir, &own), &own, notes);
        self.add(Place::tmpfs(), "tmpfs", notes);
        for kind in [FileSystem::Xfs, FileSystem::Btrfs] {
            self.add(Place::on_loop_device(kind, dir), kind.name(), notes);
        }
        self.add(Place::on_ram_disk(dir), "a RAM disk", notes);
        self.add(Place::slow(dir, NO_LATENCY, 2, FILE), "FUSE", notes);
        let cells = self.state.iter().flat_map(|(files, place)| {
            let possible = Call::ALL.into_iter().filter(|&call| files.can(call));
            possible.map(|call| Cell::of(call.name()).at(AXIS, place.name.as_str()))
        });
        Ok(cells.collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let name = cell.word(AXIS);
        let mut places = self.state.iter_mut();
        let (files, _) = places.find(|(_, p)| p.name == name).context("no place")?;
        let call = Call::named(&cell.contender)?;
        Ok(files.measure(call, SIZE, length(machine))?.sample())
    }

    fn answer(&self, results: &Results) -> Answer {
        let names = results.positions(AXIS);
        let time = |call: Call, name: &Position| {
            results.estimate(call.name(), &[(AXIS, name.clone())], TIME)
        };
        // The fastest and the slowest place of a call.
        let range = |call: Call| {
            let mut times: Vec<_> = names
                .iter()
                .filter_map(|name| Some((name, time(call, name)?)))
                .collect();
            times.sort_by(|a, b| a.1.value.total_cmp(&b.1.value));
            let last = times.len().checked_sub(1)?;
            Some((times[0], times[last]))
        };
        let mut answer = Answer::default();
        let mut parts = Vec::new();
        let mut widest = 0.0_f64;
        for call in [
            Call::Open,
            Call::CachedRead,
            Call::DirectRead,
            Call::WriteAndSync,
        ] {
            let Some(((fast, low), (slow, high))) = range(call) else {
                continue;
            };
            let name = call.name();
            widest = widest.max(high.value / low.value);
            parts.push(if fast == slow {
                format!("{name} takes {{{name} low}} on {fast}")
            } else {
                format!("{name} takes {{{name} low}} on {fast} and {{{name} high}} on {slow}")
            });
            answer = answer
                .with(&format!("{name} low"), Some(low))
                .with(&format!("{name} high"), Some(high));
        }
        answer.sentence = match parts.is_empty() {
            true => nothing_measured("the file systems"),
            false if widest > 2.0 => format!("The file system decides: {}.", parts.join("; ")),
            false => format!("The file system hardly matters: {}.", parts.join("; ")),
        };
        answer
            .plot(Plot::lines("Time until the call returns", AXIS, TIME, true))
            .plot(Plot::lines("Processor time of the call", AXIS, CPU, true))
    }
}
