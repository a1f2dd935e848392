//! Question 8: whole programs, on blocking threads, on spare I/O threads, and on fibers.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::bench::data_file::data_file;
use crate::bench::phase::Phase;
use crate::bench::programs::Engine;
use crate::bench::work::turns_per_us;
use crate::measure::mixed;
use crate::measure::whole_programs::case::{self, Kind, Participant, Work};
use crate::measure::whole_programs::nginx::Nginx;
use crate::measure::whole_programs::redis_benchmark;
use crate::measure::whole_programs::run::{self, Place, Run};
use crate::study::answer::{Answer, Better, Direction};
use crate::study::cell::{Cell, Sample};
use crate::study::estimate::{Estimate, median};
use crate::study::experiment::{About, Experiment};
use crate::study::machine::Machine;
use crate::study::plot::{MapCell, Plot};
use crate::study::results::Results;
use crate::study::unit::Unit;

const PROGRAM: &str = "program";

/// The mixed requests, which are a program of their own.
const MIXED: &str = "requests with 10 us of work";
const MIXED_US: f64 = 10.0;
const MIXED_MIB: u64 = 64;

/// The engines that a full study compares with the first choice.
const ENGINES: [Engine; 2] = [Engine::Aio, Engine::Threads];

/// Programs that start with these words take part in a quick study.
const QUICK: [&str; 4] = [
    "indexer, cold",
    "httpd, 4 KB, keep-alive, 64",
    "key-value server, memcached",
    "log",
];

/// Programs that start with these words are left to `--only programs`: they do no I/O that could be
/// asynchronous, or take long and ask the same as another one.
const LEFT_OUT: [&str; 3] = [
    "fork and exec",
    "split computation",
    "key-value server, redis-benchmark, pipeline",
];

/// One way of running one program.
struct Contender {
    program: String,
    name: String,
    work: Work,
    participant: &'static Participant,
    /// An engine other than the first choice.
    engine: Option<Engine>,
}

/// The programs, ready to run.
struct Prepared {
    place: Place,
    contenders: Vec<Contender>,
    /// The engines that work here.
    engines: Vec<(Engine, Bench)>,
    turns: u64,
    file: PathBuf,
}

/// The programs of `measure --only programs` and `mixed`.
#[derive(Default)]
pub struct WholePrograms(Option<Prepared>);

impl Experiment for WholePrograms {
    fn about(&self) -> About {
        About {
            question: 8,
            id: "whole-programs",
            title: "Whole programs",
            method: "Each program is one source, compiled for fibers and for pthreads; all use the \
                same two processors. Servers answer a load generator over the loopback interface. \
                Mixed requests read 4 KiB, half of them uncached, and compute for 10 us; a pool of \
                threads serves them, too.",
            weight: (14.0, 290.0),
        }
    }

    fn available(&self, machine: &Machine) -> Result<(), String> {
        let fibers = machine.bench.ensure_fibers_can_wait("fibers");
        fibers.map_err(|error| format!("{error:#}"))
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let bench = &machine.bench;
        let mut prepared = Prepared {
            place: Place::prepare(bench)?,
            contenders: Vec::new(),
            engines: Vec::new(),
            turns: (MIXED_US * turns_per_us(bench)?) as u64,
            file: data_file(&bench.dir, MIXED_MIB)?,
        };
        for engine in machine.pick((&[][..], &ENGINES[..])) {
            match bench.with_engine(*engine) {
                Ok(with_engine) => prepared.engines.push((*engine, with_engine)),
                Err(error) => notes.push(format!("{error:#}")),
            }
        }
        let nginx = Nginx::version().is_some();
        if !nginx {
            notes.push(
                "nginx is not installed, so it is no reference for the file server".to_owned(),
            );
        }
        let redis_benchmark = redis_benchmark::version().is_some();
        if !redis_benchmark && !bench.quick {
            notes.push(
                "redis-benchmark is not installed, so it is no client of the key-value server"
                    .to_owned(),
            );
        }
        for case in case::all(bench) {
            let wanted = |start: &&str| case.name.starts_with(*start);
            if LEFT_OUT.iter().any(wanted) || (bench.quick && !QUICK.iter().any(wanted)) {
                continue;
            }
            if case.needs_redis_benchmark() && !redis_benchmark {
                continue;
            }
            let whole = case.participants.iter().filter(|p| !p.one_core);
            for participant in whole.filter(|p| nginx || p.kind != Kind::Nginx) {
                let mut add = |name: String, engine| {
                    prepared.contenders.push(Contender {
                        program: case.name.clone(),
                        name,
                        work: case.work,
                        participant,
                        engine,
                    });
                };
                add(participant.name.to_owned(), None);
                if let Kind::Fibers {
                    workers: 2,
                    each: false,
                } = participant.kind
                {
                    for (engine, _) in &prepared.engines {
                        add(
                            format!("{}, {}", participant.name, engine.name()),
                            Some(*engine),
                        );
                    }
                }
            }
        }
        let programs = prepared
            .contenders
            .iter()
            .map(|c| Cell::of(c.name.as_str()).at(PROGRAM, c.program.as_str()));
        let mixed = mixed::NAMES[..mixed::AGAIN].iter();
        let cells = programs.chain(mixed.map(|&name| Cell::of(name).at(PROGRAM, MIXED)));
        let cells = cells.collect();
        self.0 = Some(prepared);
        Ok(cells)
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let prepared = self.0.as_ref().context("not prepared")?;
        let program = cell.word(PROGRAM);
        if program == MIXED {
            let who = mixed::NAMES.iter().position(|name| *name == cell.contender);
            let who = who.context("no such contender")?;
            let requests = machine.pick((2000, 8000));
            let phase = mixed::run(
                &machine.bench,
                who,
                requests,
                prepared.turns,
                &prepared.file,
            )?;
            return Ok(of_phase(&phase));
        }
        let mut contenders = prepared.contenders.iter();
        let contender = contenders.find(|c| c.program == program && c.name == cell.contender);
        let contender = contender.context("no such contender")?;
        let with_engine = prepared
            .engines
            .iter()
            .find(|(e, _)| Some(*e) == contender.engine);
        let bench = with_engine.map_or(&machine.bench, |(_, bench)| bench);
        let run = run::run(
            bench,
            &prepared.place,
            contender.work,
            contender.participant,
        )?;
        Ok(of_run(&run, contender.work.is_server()))
    }

    fn answer(&self, results: &Results) -> Answer {
        let programs = results.positions(PROGRAM);
        let names = programs.iter().map(ToString::to_string);
        let duels: Vec<Duel> = names.filter_map(|name| Duel::of(results, name)).collect();
        if duels.is_empty() {
            return Answer::new("No whole program could be measured.");
        }
        let sides: Vec<Direction> = duels
            .iter()
            .filter_map(|duel| Some(Direction::of(&duel.rate?, Better::Higher)))
            .collect();
        let count = |wanted| {
            let many = sides.iter().filter(|side| **side == wanted).count();
            Some(Estimate::exact(Unit::Count, many as f64))
        };
        let mut cpu: Vec<f64> = duels.iter().filter_map(|d| Some(d.cpu?.value)).collect();
        let cpu = median(&mut cpu).map(|value| Estimate::exact(Unit::Ratio, value));
        let by_rate = |duel: &&Duel| duel.rate.map_or(1.0, |rate| rate.value);
        let best = duels
            .iter()
            .max_by(|a, b| by_rate(a).total_cmp(&by_rate(b)));
        let worst = duels
            .iter()
            .min_by(|a, b| by_rate(a).total_cmp(&by_rate(b)));
        let name =
            |duel: Option<&Duel>| duel.map_or("none", |duel| duel.program.as_str()).to_owned();
        let loses = count(LOSES).is_some_and(|many| many.value > 0.0);
        let losers: Vec<&str> = duels
            .iter()
            .filter(|d| {
                d.rate
                    .is_some_and(|r| Direction::of(&r, Better::Higher) == LOSES)
            })
            .map(|duel| duel.program.as_str())
            .collect();
        let losers = match losers.is_empty() {
            true => String::new(),
            false => format!(" ({})", losers.join("; ")),
        };
        let tails: Vec<Direction> = duels
            .iter()
            .filter_map(|duel| Some(Direction::of(&duel.p99?, Better::Lower)))
            .collect();
        let tail = |wanted| {
            let many = tails.iter().filter(|side| **side == wanted).count();
            Some(Estimate::exact(Unit::Count, many as f64))
        };
        let latency = match tails.is_empty() {
            true => "",
            false => {
                " Of {servers} servers, the 99th percentile of the answers is lower with fibers in \
                 {p99 wins}, higher in {p99 loses} and equal in the others."
            }
        };
        let sentence = format!(
            "Of {{programs}} whole programs, the best fibers are faster than the best threads in \
             {{wins}}, slower in {{loses}}{losers} and equal in {{same}}: from {{worst}} the rate \
             ({}) to {{best}} ({}), with {{cpu}} of their CPU time in the median.{latency}",
            name(worst),
            name(best)
        );
        let mut answer = Answer::new(sentence.clone())
            .verdict(format!("{sentence} {}", advice(loses)))
            .with(
                "programs",
                Some(Estimate::exact(Unit::Count, sides.len() as f64)),
            )
            .with("wins", count(WINS))
            .with("loses", count(LOSES))
            .with("same", count(Direction::NoDifference))
            .with(
                "servers",
                Some(Estimate::exact(Unit::Count, tails.len() as f64)),
            )
            .with("p99 wins", tail(WINS))
            .with("p99 loses", tail(LOSES))
            .with("cpu", cpu)
            .with("best", best.and_then(|duel| duel.rate))
            .with("worst", worst.and_then(|duel| duel.rate));
        let mut table = Vec::new();
        for duel in &duels {
            let program = &duel.program;
            for (what, title, ratio, better) in [
                ("rate", "rate", duel.rate, Better::Higher),
                ("CPU", "CPU time", duel.cpu, Better::Lower),
                ("p99", "99th percentile", duel.p99, Better::Lower),
            ] {
                let finding = format!("{what}: {program}");
                answer = answer.judged(&finding, ratio, better);
                table.push(MapCell {
                    row: program.clone(),
                    column: title.to_owned(),
                    finding,
                });
            }
        }
        answer = answer.plot(Plot::map(
            "The best fibers relative to the best threads",
            PROGRAM,
            "fibers relative to threads",
            table,
        ));
        for duel in &duels {
            let title = format!("{}: a second", duel.program);
            let program = duel.program.as_str();
            answer = answer.plot(Plot::bars(&title, "rate", false).only(PROGRAM, program));
        }
        answer
    }
}

const WINS: Direction = Direction::AsyncWins;
const LOSES: Direction = Direction::AsyncLoses;

/// What a runtime such as Go's should do.
fn advice(loses: bool) -> &'static str {
    if loses {
        "A runtime gains if it parks a green thread only for I/O that waits, and tries the call \
         without waiting first; it should keep its I/O threads for the rest."
    } else {
        "A runtime such as Go's would gain from asynchronous file I/O if it tries each call \
         without waiting first."
    }
}

fn of_phase(phase: &Phase) -> Sample {
    Sample::of("rate", Unit::PerSecond, phase.rate())
        .and("time", Unit::Nanoseconds, 1e6 * phase.ms())
        .and("CPU time", Unit::Nanoseconds, 1e3 * phase.cpu_us())
}

fn of_run(run: &Run, server: bool) -> Sample {
    let sample = Sample::of("rate", Unit::PerSecond, run.rate())
        .and("time", Unit::Nanoseconds, 1e6 * run.ms())
        .and("CPU time", Unit::Nanoseconds, 1e3 * run.cpu_us_each());
    if server {
        sample
            .and("p50", Unit::Nanoseconds, 1e3 * run.p50_us)
            .and("p99", Unit::Nanoseconds, 1e3 * run.p99_us)
            .and("p99.9", Unit::Nanoseconds, 1e3 * run.p999_us)
            .and("failed requests", Unit::Count, run.failed())
    } else {
        sample
    }
}

/// The best fibers against the best threads in one program.
struct Duel {
    program: String,
    rate: Option<Estimate>,
    cpu: Option<Estimate>,
    p99: Option<Estimate>,
}

impl Duel {
    fn of(results: &Results, program: String) -> Option<Duel> {
        let point = [(PROGRAM, program.as_str().into())];
        let rate = |name: &str| {
            results
                .estimate(name, &point, "rate")
                .map(|rate| rate.value)
        };
        let best = |wanted: fn(&str) -> bool| {
            let those = results.0.iter().filter(|c| c.is_at(&point));
            let names = those
                .map(|c| c.cell.contender.as_str())
                .filter(|name| wanted(name));
            names
                .filter_map(|name| Some((name, rate(name)?)))
                .max_by(|a, b| a.1.total_cmp(&b.1))
        };
        let (fibers, _) = best(|name| {
            let with_engine = |engine: &Engine| name.ends_with(engine.name());
            name.contains("fiber") && !ENGINES.iter().any(with_engine)
        })?;
        let (threads, _) = best(|name| !name.contains("fiber") && name != "nginx")?;
        let ratio = |figure| results.ratio(fibers, threads, &point, figure);
        let (rate, cpu, p99) = (ratio("rate"), ratio("CPU time"), ratio("p99"));
        Some(Duel {
            program,
            rate,
            cpu,
            p99,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Duel, PROGRAM};
    use crate::study::cell::{Cell, Sample};
    use crate::study::results::{CellResults, Results};
    use crate::study::unit::Unit;

    #[test]
    fn the_best_of_both_sides_are_compared() {
        let mut results = Results::default();
        let rates = [
            ("8 pthreads", 10.0),
            ("64 pthreads", 20.0),
            ("fibers, 1 worker", 15.0),
            ("fibers, 2 workers", 30.0),
            ("nginx", 100.0),
        ];
        for (name, rate) in rates {
            let mut cell = CellResults::new(Cell::of(name).at(PROGRAM, "it"));
            cell.add(0, Sample::of("rate", Unit::PerSecond, rate));
            cell.summarise();
            results.0.push(cell);
        }
        let duel = Duel::of(&results, "it".to_owned()).expect("both sides");
        assert_eq!(duel.rate.map(|rate| rate.value), Some(1.5));
        assert_eq!(duel.cpu, None);
    }
}
