//! Cached reads into memory that is itself in a cache of the processor, or in none.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result};

use super::processor_caches::ProcessorCaches;
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::experiments::blocking::write_data;
use crate::study::experiments::buffer::Buffer;
use crate::study::experiments::stopwatch::{CPU, Length, TIME, time};
use crate::study::machine::Machine;
use crate::study::places::Place;
use crate::study::plot::Plot;
use crate::study::results::Results;

const AXIS: &str = "buffers in";
const SECOND: &str = "L2";
const LAST: &str = "last-level cache";
const MEMORY: &str = "memory";

const READ: &str = "pread";
const READ_AND_USE: &str = "pread and a look at the data";

/// The size of each read. All reads are of the same part of the file, which stays in the caches.
const BLOCK: usize = 65536;

/// The most memory for the buffers.
const MOST: u64 = 256 << 20;

/// The experiment.
#[derive(Default)]
pub struct Buffers {
    state: Option<State>,
}

struct State {
    file: File,
    buffer: Buffer,
    /// The memory through which the reads go, by the name of where it fits.
    sizes: Vec<(&'static str, usize)>,
    next: usize,
    _place: Place,
}

impl Experiment for Buffers {
    fn about(&self) -> About {
        About {
            question: 7,
            id: "buffer-caches",
            title: "Reads into buffers in L2, in the last-level cache, and in memory",
            method: "One thread reads the same cached 64 KiB again and again into the next of many \
                     buffers, which together fill half of L2, half of the last-level cache, or \
                     four times that cache. A look at the data adds up its words.",
            weight: (1.3, 10.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let caches = ProcessorCaches::read().unwrap_or_else(|| {
            notes.push("the kernel does not show the caches: 1 MiB and 32 MiB assumed".to_owned());
            ProcessorCaches {
                second: 1 << 20,
                last: 32 << 20,
            }
        });
        let sizes = [
            (SECOND, caches.second / 2),
            (LAST, (caches.last / 2).min(MOST / 4)),
            (MEMORY, (caches.last * 4).min(MOST)),
        ];
        let whole = |bytes: u64| (bytes as usize / BLOCK * BLOCK).max(BLOCK);
        let place = Place::inside(&machine.bench.dir, "")?;
        let path = place.dir.join("file");
        write_data(&path, BLOCK as u64)?;
        let sizes = sizes.map(|(name, bytes)| (name, whole(bytes))).to_vec();
        let most = sizes.iter().map(|(_, bytes)| *bytes).max();
        self.state = Some(State {
            file: File::open(&path)?,
            buffer: Buffer::new(most.context("no sizes")?),
            sizes: sizes.clone(),
            next: 0,
            _place: place,
        });
        let cells = sizes.into_iter().flat_map(|(name, _)| {
            [READ, READ_AND_USE].map(|contender| Cell::of(contender).at(AXIS, name))
        });
        Ok(cells.collect())
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let state = self.state.as_mut().context("not prepared")?;
        let name = cell.word(AXIS);
        let mut sizes = state.sizes.iter();
        let (_, size) = sizes.find(|(of, _)| *of == name).context("no size")?;
        let length = Length {
            time: Duration::from_millis(machine.pick((10, 30))),
            least: 10,
            most: 100_000,
        };
        let looks = cell.contender == READ_AND_USE;
        let (file, buffer, next) = (&state.file, state.buffer.bytes(), &mut state.next);
        let mut read = |_| {
            *next = (*next + BLOCK) % size;
            let part = &mut buffer[*next..*next + BLOCK];
            file.read_exact_at(part, 0)?;
            if looks {
                std::hint::black_box(sum(part));
            }
            Ok(())
        };
        // Whatever was measured before has thrown the buffers out of the caches.
        for n in 0..(*size / BLOCK) as u64 {
            read(n)?;
        }
        Ok(time(length, read)?.sample())
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

/// Adds up the words of `bytes`.
fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word));
    words.fold(0, u64::wrapping_add)
}

fn answer(results: &Results) -> Answer {
    let at = |contender: &str, place: &str, figure| {
        results.estimate(contender, &[(AXIS, Position::from(place))], figure)
    };
    let Some((second, memory)) = at(READ, SECOND, TIME).zip(at(READ, MEMORY, TIME)) else {
        return Answer::new("Reads into different buffers could not be measured.");
    };
    let matters = memory.value / second.value > 1.1;
    let mut sentence = format!(
        "A cached read of 64 KiB takes {{L2}} into buffers that fit L2, {{last}} into buffers that \
         fit the last-level cache, and {{memory}} into more memory than that: {}.",
        if matters {
            "few buffers that are used again are worth more than many"
        } else {
            "the number of buffers hardly matters"
        }
    );
    if at(READ_AND_USE, MEMORY, TIME).is_some() {
        sentence += " With a look at the data it takes {used L2} and {used memory}.";
    }
    Answer::new(sentence)
        .with("L2", Some(second))
        .with("last", at(READ, LAST, TIME))
        .with("memory", Some(memory))
        .with("used L2", at(READ_AND_USE, SECOND, TIME))
        .with("used memory", at(READ_AND_USE, MEMORY, TIME))
        .plot(Plot::lines("Time of a read of 64 KiB", AXIS, TIME, false))
        .plot(Plot::lines("Processor time of a read", AXIS, CPU, false))
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn all_words_are_looked_at() {
        let mut bytes = vec![0; 64];
        bytes[8] = 3;
        bytes[56] = 4;
        assert_eq!(sum(&bytes), 7);
    }
}
