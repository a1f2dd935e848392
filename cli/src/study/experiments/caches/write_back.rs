//! Writes that wait in memory for the disk, writes that must wait for it themselves, and the limit
//! between them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::dirty_limit;
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::experiments::buffer::Buffer;
use crate::study::experiments::stopwatch::{CPU, Length, OFF_CPU, TIME, time};
use crate::study::machine::Machine;
use crate::study::places::cleanup::Guard;
use crate::study::places::mounted::FileSystem;
use crate::study::places::{Kind, Place};
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const BELOW: &str = "buffered, below the limit";
const ABOVE: &str = "buffered, above the limit";
const SYNC: &str = "O_SYNC";
const DIRECT: &str = "O_DIRECT";

const WORST: &str = "the slowest of a hundred writes";

const BLOCK: u64 = 65536;

/// The limit of the study's own device.
const LIMIT: u64 = 16 << 20;

/// The bytes that are written below the limit: too few for write-back to begin.
const FEW: u64 = 4 << 20;

/// The size of the file. Writes start again at its begin.
const FILE: u64 = 96 << 20;

/// The most that may be written to get above the limit of the machine.
const MOST: u64 = 512 << 20;

/// The experiment.
#[derive(Default)]
pub struct WriteBack {
    state: Option<State>,
}

/// The files are closed first, then the device gets its limit back, then it goes.
struct State {
    buffered: File,
    sync: File,
    direct: Option<File>,
    buffer: Buffer,
    /// The bytes that may wait for the disk.
    limit: u64,
    at: u64,
    _limit: Option<Guard>,
    _place: Place,
}

impl Experiment for WriteBack {
    fn about(&self) -> About {
        About {
            question: 7,
            id: "write-back",
            title: "Writes below and above the limit of unwritten data",
            method: "One thread writes blocks of 64 KiB to a file. As root, it is on a loop device \
                     whose own limit of unwritten data is set to 16 MiB, so that nothing else on \
                     the machine is affected; O_SYNC and O_DIRECT writes go to the same file.",
            weight: (2.8, 20.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let dir = &machine.bench.dir;
        let limited = limited(dir);
        if let Err(error) = &limited {
            notes.push(format!(
                "the limit cannot be lowered for a device: {error:#}"
            ));
        }
        let of_machine = dirty_limit::of_machine();
        let (place, guard, limit) = match limited {
            Ok((place, guard)) => (place, Some(guard), LIMIT),
            Err(_) => (
                Place::inside(dir, "")?,
                None,
                of_machine.unwrap_or(u64::MAX),
            ),
        };
        if let Some(bytes) = of_machine {
            let bytes = Unit::Bytes.show(bytes as f64);
            notes.push(format!(
                "the machine's own limit of unwritten data is {bytes}"
            ));
        }
        let state = State::open(&place.dir.join("file"), limit, (guard, place))?;
        let mut names = vec![BELOW];
        match limit <= MOST {
            true => names.push(ABOVE),
            false => notes.push(
                "not measured above the limit: the study would have to write too much".to_owned(),
            ),
        }
        names.push(SYNC);
        match state.direct {
            Some(_) => names.push(DIRECT),
            None => notes.push("no O_DIRECT on this file system".to_owned()),
        }
        self.state = Some(state);
        Ok(names.into_iter().map(Cell::of).collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let state = self.state.as_mut().context("not prepared")?;
        let milliseconds = machine.pick((40, 120));
        state.measure(&cell.contender, Duration::from_millis(milliseconds))
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

/// A file system on a device with a low limit.
fn limited(dir: &Path) -> Result<(Place, Guard)> {
    let place = Place::on_loop_device(FileSystem::Ext4, dir)?;
    let Kind::Mounted(mounted) = &place.kind else {
        anyhow::bail!("a loop device is mounted");
    };
    let guard = dirty_limit::set_for(&mounted.device.path, LIMIT)?;
    Ok((place, guard))
}

impl State {
    fn open(path: &Path, limit: u64, (guard, place): (Option<Guard>, Place)) -> Result<State> {
        let open = |flags| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            options.custom_flags(flags).open(path)
        };
        let buffered = open(0).with_context(|| format!("cannot create {}", path.display()))?;
        let mut buffer = Buffer::new(BLOCK as usize);
        for at in (0..FILE).step_by(BLOCK as usize) {
            buffered.write_all_at(&buffer.bytes()[..BLOCK as usize], at)?;
        }
        buffered.sync_all()?;
        Ok(State {
            sync: open(libc::O_SYNC)?,
            direct: open(libc::O_DIRECT).ok(),
            buffered,
            buffer,
            limit,
            at: 0,
            _limit: guard,
            _place: place,
        })
    }

    fn measure(&mut self, name: &str, length: Duration) -> Result<Sample> {
        let file = match name {
            SYNC => &self.sync,
            DIRECT => self.direct.as_ref().context("no O_DIRECT here")?,
            _ => &self.buffered,
        };
        let block = &self.buffer.bytes()[..BLOCK as usize];
        let at = &mut self.at;
        let mut write = |_| {
            *at = (*at + BLOCK) % FILE;
            Ok(file.write_all_at(block, *at)?)
        };
        file.sync_all()?;
        let mut most = u64::MAX;
        if name == BELOW {
            most = FEW / BLOCK;
        }
        if name == ABOVE {
            for n in 0..(self.limit + self.limit / 4) / BLOCK {
                write(n)?;
            }
        }
        let length = Length {
            time: length,
            least: 2,
            most,
        };
        let series = time(length, write)?;
        let worst = series.latency.percentile(99.0) as f64;
        Ok(series.sample().and(WORST, Unit::Nanoseconds, worst))
    }
}

fn answer(results: &Results) -> Answer {
    let at = |name: &str, figure| results.estimate(name, &[], figure);
    let Some(below) = at(BELOW, TIME) else {
        return Answer::new("Buffered writes could not be measured.");
    };
    let mut sentence =
        "A write of 64 KiB returns after {below} as long as the data may wait in memory".to_owned();
    if let Some(above) = at(ABOVE, TIME) {
        sentence += if above.value > 1.5 * below.value {
            ", and takes {above}, {times} as long, once too much waits: the thread then sleeps for \
             {off} of the time, and one write of a hundred takes {worst}"
        } else {
            ", and hardly longer once too much waits ({above})"
        };
    }
    sentence += ".";
    if at(DIRECT, TIME).is_some() || at(SYNC, TIME).is_some() {
        sentence += " It takes {sync} with O_SYNC and {direct} with O_DIRECT.";
    }
    Answer::new(sentence)
        .with("below", Some(below))
        .with("above", at(ABOVE, TIME))
        .with("times", results.ratio(ABOVE, BELOW, &[], TIME))
        .with("off", at(ABOVE, OFF_CPU))
        .with("worst", at(ABOVE, WORST))
        .with("sync", at(SYNC, TIME))
        .with("direct", at(DIRECT, TIME))
        .plot(Plot::bars("Time of a write of 64 KiB", TIME, true))
        .plot(Plot::bars("Processor time of a write", CPU, true))
        .plot(Plot::latency("Writes of 64 KiB"))
}

#[cfg(test)]
mod tests {
    use super::{ABOVE, BELOW, TIME, answer};
    use crate::study::cell::{Cell, Sample};
    use crate::study::results::{CellResults, Results};
    use crate::study::unit::Unit;

    #[test]
    fn the_sentence_follows_the_figures() {
        let sentence = |above: f64| {
            let mut results = Results::default();
            for (name, ns) in [(BELOW, 10.0), (ABOVE, above)] {
                let mut cell = CellResults::new(Cell::of(name));
                cell.add(0, Sample::of(TIME, Unit::Nanoseconds, ns));
                cell.summarise();
                results.0.push(cell);
            }
            answer(&results).sentence
        };
        assert!(sentence(100.0).contains("{times} as long"));
        assert!(sentence(11.0).contains("hardly longer"));
    }
}
