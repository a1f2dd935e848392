//! Question 6: more threads than processors, beside fibers.

use std::path::PathBuf;

use anyhow::Result;

use super::requests::{By, Requests};
use crate::bench::data_file::data_file;
use crate::study::answer::{Answer, Better};
use crate::study::cell::{Cell, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::machine::Machine;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;

const THREADS: &str = "threads";
const CONTENDERS: [(&str, By); 3] = [
    (THREADS, By::Threads),
    ("fibers, 1 worker", By::Fibers { workers: 1 }),
    ("fibers, 2 workers", By::Fibers { workers: 2 }),
];
const ONE_WORKER: &str = CONTENDERS[1].0;
const TWO_WORKERS: &str = CONTENDERS[2].0;

const COUNTS: [u32; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const FEW: [u32; 5] = [1, 4, 32, 256, 1024];

/// The count at which the sentence compares.
const MANY: u32 = 256;
const MOST: u32 = 1024;

/// The processors that everybody may use.
const PROCESSORS: u32 = 2;

/// Threads against fibers, from one to far more than there are processors.
#[derive(Default)]
pub struct ManyThreads {
    file: PathBuf,
}

impl Experiment for ManyThreads {
    fn about(&self) -> About {
        About {
            question: 6,
            id: "many-threads",
            title: "More threads than processors",
            method: "1 to 1024 threads, or as many fibers on one and on two OS threads, read \
                random blocks of 4 KiB on two processors, from the page cache and with O_DIRECT. \
                Memory is what the process and the kernel's stacks grew by while all of them \
                exist; buffers do not count, and neither do the kernel's io_uring rings.",
            weight: (9.0, 125.0),
        }
    }

    fn available(&self, machine: &Machine) -> Result<(), String> {
        let fibers = machine.bench.ensure_fibers_can_wait("fibers");
        fibers.map_err(|error| format!("{error:#}"))
    }

    fn prepare(&mut self, machine: &Machine, _: &mut Vec<String>) -> Result<Vec<Cell>> {
        self.file = data_file(&machine.bench.dir, machine.pick((128, 512)))?;
        let counts: &[u32] = machine.pick((&FEW, &COUNTS));
        let mut cells = Vec::new();
        for cache in ["direct", "cached"] {
            for &count in counts {
                for (contender, _) in CONTENDERS {
                    cells.push(Cell::of(contender).at("cache", cache).at("count", count));
                }
            }
        }
        Ok(cells)
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let by = CONTENDERS.iter().find(|(name, _)| *name == cell.contender);
        let count = cell.number("count").unwrap_or_default();
        let told = Requests {
            by: by.map_or(By::Threads, |(_, by)| *by),
            count: count as u32,
            processors: PROCESSORS,
            ms: machine.pick((40, 150)),
            bytes: 4096,
            cache: if cell.word("cache") == "cached" {
                "cached"
            } else {
                "direct"
            },
            turns: 0,
            file: &self.file,
        }
        .run(&machine.bench)?;
        let memory = (told.memory_bytes + told.kernel_stack_bytes) as f64 / count;
        Ok(told.sample().and("memory of each", Unit::Bytes, memory))
    }

    fn answer(&self, results: &Results) -> Answer {
        let at = |cache: &str, count: u32| [("cache", cache.into()), ("count", count.into())];
        let (direct, many) = (at("direct", MANY), at("direct", MOST));
        let cached = at("cached", MANY);
        Answer::new(format!(
            "With {MANY} waiting readers on two processors, fibers on one OS thread read from \
            the disk at {{rate}} the rate of {MANY} threads for {{cpu}} of the CPU time a read, \
            with a 99th percentile of {{p99_fibers}} against {{p99_threads}}; from the page cache, \
            where nothing waits, they read at {{cached}} the rate on one worker and {{cached_2}} \
            on two. Among {MOST}, each fiber takes {{fiber}} and each thread {{thread}} of memory."
        ))
        .verdict(format!(
            "Compared with {MANY} threads on two processors, {MANY} fibers on one OS thread read \
             from the disk at {{rate}} the rate for {{cpu}} of their CPU time; from the page \
             cache, where nothing waits, at {{cached}} the rate on one OS thread and {{cached_2}} \
             on two."
        ))
        .judged(
            "rate",
            results.ratio(ONE_WORKER, THREADS, &direct, "rate"),
            Better::Higher,
        )
        .judged(
            "cpu",
            results.ratio(ONE_WORKER, THREADS, &direct, "CPU time"),
            Better::Lower,
        )
        .judged(
            "cached",
            results.ratio(ONE_WORKER, THREADS, &cached, "rate"),
            Better::Higher,
        )
        .judged(
            "cached_2",
            results.ratio(TWO_WORKERS, THREADS, &cached, "rate"),
            Better::Higher,
        )
        .with("p99_fibers", results.estimate(ONE_WORKER, &direct, "p99"))
        .with("p99_threads", results.estimate(THREADS, &direct, "p99"))
        .with(
            "fiber",
            results.estimate(ONE_WORKER, &many, "memory of each"),
        )
        .with("thread", results.estimate(THREADS, &many, "memory of each"))
        .plot(
            Plot::lines("Reads per second, O_DIRECT", "count", "rate", false)
                .only("cache", "direct"),
        )
        .plot(
            Plot::lines(
                "Reads per second, from the page cache",
                "count",
                "rate",
                false,
            )
            .only("cache", "cached"),
        )
        .plot(
            Plot::lines("CPU time of a read, O_DIRECT", "count", "CPU time", true)
                .only("cache", "direct"),
        )
        .plot(
            Plot::lines("99th percentile of a read, O_DIRECT", "count", "p99", true)
                .only("cache", "direct"),
        )
        .plot(
            Plot::lines("Memory of each", "count", "memory of each", true)
                .only("cache", "direct")
                .of(&[THREADS, ONE_WORKER]),
        )
        .plot(
            Plot::latency("Latencies of reads by 256, O_DIRECT")
                .only("cache", "direct")
                .only("count", MANY),
        )
    }
}
