//! Question 9, the map: size, state of the cache, depth and latency of reads, and where
//! asynchronous I/O wins, loses, or makes no difference.

mod sentences;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::requests::{By, Requests};
use crate::bench::data_file::data_file;
use crate::study::answer::{Answer, Better};
use crate::study::cell::{Cell, Position, Sample};
use crate::study::estimate::Estimate;
use crate::study::experiment::{About, Experiment};
use crate::study::machine::Machine;
use crate::study::places::{Place, name_of};
use crate::study::plot::{MapCell, Plot};
use crate::study::results::Results;
use crate::study::unit::Unit;

const THREADS: &str = "threads";
const FIBERS: &str = "fibers";

/// The axes of the map.
const FROM: &str = "reads from";
const SIZE: &str = "size";
const DEPTH: &str = "depth";

/// The part of the reads for which the shim parks the fiber.
const PARKED: &str = "parked";

/// Where reads come from: the name of a row, the state of the cache, and the file.
struct Source {
    name: String,
    cache: &'static str,
    file: PathBuf,
    /// Keeps a file system of the study's own.
    _place: Option<Place>,
}

/// Threads against fibers on one processor, over all combinations.
#[derive(Default)]
pub struct Map {
    sources: Vec<Source>,
    /// What the policy did with the reads of each cell.
    parked: BTreeMap<String, f64>,
}

impl Experiment for Map {
    fn about(&self) -> About {
        About {
            question: 9,
            id: "map",
            title: "The map: where asynchronous I/O wins, loses, or makes no difference",
            method: "On one processor, threads and as many fibers on one thread read random \
                blocks: from the page cache, cold, with O_DIRECT, and with O_DIRECT from FUSE file \
                systems of different latencies, which another process serves. Depth is the number \
                of readers. The policy's choice is counted in separate runs.",
            weight: (18.0, 300.0),
        }
    }

    fn available(&self, machine: &Machine) -> Result<(), String> {
        let fibers = machine.bench.ensure_fibers_can_wait("fibers");
        fibers.map_err(|error| format!("{error:#}"))
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let file = data_file(&machine.bench.dir, machine.pick((128, 512)))?;
        for (name, cache) in [
            ("page cache", "cached"),
            ("disk, cold cache", "cold"),
            ("disk, O_DIRECT", "direct"),
        ] {
            self.sources.push(Source {
                name: name.to_owned(),
                cache,
                file: file.clone(),
                _place: None,
            });
        }
        let latencies: &[u64] = machine.pick((&[200, 5000], &[50, 200, 1000, 5000]));
        for &us in latencies {
            let latency = Duration::from_micros(us);
            let name = format!("FUSE, {}", name_of(latency));
            match Place::slow(&machine.bench.dir, latency, 1, 256 << 20) {
                Ok(place) => self.sources.push(Source {
                    name,
                    cache: "direct",
                    file: place.dir.join("0"),
                    _place: Some(place),
                }),
                Err(error) => notes.push(format!("{name}: not measured: {error:#}")),
            }
        }
        let sizes: &[u32] = machine.pick((&[4 << 10, 256 << 10], &[4 << 10, 64 << 10, 1 << 20]));
        let depths: &[u32] = machine.pick((&[1, 8, 64], &[1, 4, 16, 64, 256]));
        let mut cells = Vec::new();
        for source in &self.sources {
            for &size in sizes {
                for &depth in depths {
                    for contender in [THREADS, FIBERS] {
                        let cell = Cell::of(contender).at(FROM, source.name.as_str());
                        cells.push(cell.at(SIZE, size).at(DEPTH, depth));
                    }
                }
            }
        }
        Ok(cells)
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let from = cell.word(FROM);
        let source = self.sources.iter().find(|source| source.name == from);
        let source = source.context("no such source")?;
        let on_fibers = cell.contender == FIBERS;
        let requests = Requests {
            by: if on_fibers {
                By::Fibers { workers: 1 }
            } else {
                By::Threads
            },
            count: cell.number(DEPTH).context("no depth")? as u32,
            processors: 1,
            ms: machine.pick((30, 100)),
            bytes: cell.number(SIZE).context("no size")? as u64,
            cache: source.cache,
            turns: 0,
            file: &source.file,
        };
        let mut sample = requests.run(&machine.bench)?.sample();
        if on_fibers && !self.parked.contains_key(&cell.to_string()) {
            let short = Requests {
                ms: requests.ms.min(40),
                ..requests
            };
            let parked = short.policy(&machine.bench)?.parked_share();
            self.parked.insert(cell.to_string(), parked);
            sample = sample.and(PARKED, Unit::Share, parked);
        }
        Ok(sample)
    }

    fn answer(&self, results: &Results) -> Answer {
        let fields = fields(results);
        let mut answer = sentences::answer(&fields);
        let mut maps: [Vec<MapCell>; 3] = Default::default();
        for field in &fields {
            let name = |what: &str| format!("{what}: {}", field.name());
            let findings = [name("rate"), name("CPU"), name(PARKED)];
            answer = answer
                .judged(&findings[0], field.rate, Better::Higher)
                .judged(&findings[1], field.cpu, Better::Lower)
                .with(&findings[2], field.parked);
            for (map, finding) in maps.iter_mut().zip(findings) {
                map.push(MapCell {
                    row: format!("{}, {}", field.from, Unit::Bytes.show(field.size)),
                    column: field.depth.to_string(),
                    finding,
                });
            }
        }
        let titles = [
            "Rate of fibers relative to threads: above 1, asynchronous I/O is faster",
            "CPU time of a read by fibers relative to threads: below 1, it is cheaper",
            "The policy: reads for which the fiber parks; all others are made at once",
        ];
        for (cells, title) in maps.into_iter().zip(titles) {
            let rows = format!("{FROM}, {SIZE}");
            answer = answer.plot(Plot::map(title, &rows, DEPTH, cells));
        }
        answer
    }
}

/// One field of the map.
struct Field {
    from: String,
    size: f64,
    depth: f64,
    rate: Option<Estimate>,
    cpu: Option<Estimate>,
    parked: Option<Estimate>,
}

impl Field {
    fn name(&self) -> String {
        let size = Unit::Bytes.show(self.size);
        format!("{}, {size}, depth {}", self.from, self.depth)
    }
}

fn fields(results: &Results) -> Vec<Field> {
    let of_fibers = results.0.iter().filter(|c| c.cell.contender == FIBERS);
    let field = |cell: &Cell| {
        let at = |axis: &'static str| Some((axis, cell.at.get(axis)?.clone()));
        let point: Vec<(&str, Position)> = [FROM, SIZE, DEPTH].into_iter().filter_map(at).collect();
        Field {
            from: cell.word(FROM).to_owned(),
            size: cell.number(SIZE).unwrap_or_default(),
            depth: cell.number(DEPTH).unwrap_or_default(),
            rate: results.ratio(FIBERS, THREADS, &point, "rate"),
            cpu: results.ratio(FIBERS, THREADS, &point, "CPU time"),
            parked: results.estimate(FIBERS, &point, PARKED),
        }
    };
    of_fibers.map(|results| field(&results.cell)).collect()
}
