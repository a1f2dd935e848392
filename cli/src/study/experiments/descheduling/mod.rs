//! Question 2: what a blocking call does to the thread that makes it.

mod calls;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stopwatch::{CPU, OFF_CPU, SWITCHES, TIME};
use crate::study::answer::Answer;
use crate::study::cell::{Cell, Sample};
use crate::study::estimate::Estimate;
use crate::study::experiment::{About, Experiment};
use crate::study::instruments::counter::Counter;
use crate::study::instruments::meter::{Meter, Usage, Whose, now_ns};
use crate::study::instruments::perf_event::Event;
use crate::study::instruments::switch_log::{Parts, SwitchLog, divide};
use crate::study::latency::Latency;
use crate::study::machine::Machine;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;
use calls::{Calls, Observed};

const INVOLUNTARY: &str = "involuntary switches";
const COUNTED: &str = "switches that the kernel's counter saw";
const CLOCK: &str = "CPU by the kernel's task clock, with the measuring";
const MIGRATIONS: &str = "moves to another processor";
const BEFORE: &str = "until it left the processor";
const ASLEEP: &str = "asleep";
const WAKING: &str = "woken until it ran";
const AFTER: &str = "until it returned";

/// The software events that are counted.
const EVENTS: [Event; 3] = [Event::ContextSwitches, Event::Migrations, Event::TaskClock];

/// The most calls of one measurement; the kernel's record of them must fit its memory.
const MOST: u64 = 500;

/// The experiment.
#[derive(Default)]
pub struct Descheduling {
    state: Option<State>,
}

struct State {
    calls: Calls,
    log: Option<SwitchLog>,
    /// The kernel's counters of [`EVENTS`], if it allows them.
    counters: Option<[Counter; 3]>,
    /// What one empty measurement costs, which is subtracted.
    overhead: Usage,
}

impl State {
    /// Makes one call. Returns the time of its begin and its cost, and adds the counts of the
    /// kernel to `counted`.
    fn observe(&mut self, call: Observed, counted: &mut [u64; 3]) -> Result<(u64, Usage)> {
        self.calls.ready(call)?;
        let before = self.counts()?;
        let meter = Meter::start(Whose::Thread);
        let start = now_ns();
        self.calls.call(call)?;
        let usage = meter.stop();
        for (sum, (from, to)) in counted.iter_mut().zip(before.iter().zip(self.counts()?)) {
            *sum += to - from;
        }
        Ok((start, usage))
    }

    /// What the counters show.
    fn counts(&self) -> Result<[u64; 3]> {
        match &self.counters {
            Some([switches, moves, clock]) => Ok([switches.read()?, moves.read()?, clock.read()?]),
            None => Ok([0; 3]),
        }
    }
}

impl Experiment for Descheduling {
    fn about(&self) -> About {
        About {
            question: 2,
            id: "descheduling",
            title: "What a blocking call does to the thread",
            method: "One thread makes each call by itself and asks getrusage and its processor \
                     clock before and after. Where perf_event_open is allowed, the kernel records \
                     when the thread left the processor, was woken and ran again.",
            weight: (2.3, 15.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, machine: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        let calls = Calls::prepare(machine, notes)?;
        let log = match SwitchLog::of_this_thread() {
            Ok(log) => Some(log),
            Err(error) => {
                notes.push(format!(
                    "no record of when the thread slept: perf_event_open: {error}"
                ));
                None
            }
        };
        notes.extend(log.as_ref().and_then(|log| log.without_wakeups.clone()));
        let [switches, moves, clock] = EVENTS.map(Counter::of_this_thread);
        let counters = switches.and_then(|switches| Ok([switches, moves?, clock?]));
        if let Err(error) = &counters {
            notes.push(format!("the kernel's counters are refused: {error}"));
        }
        let mut cells: Vec<Cell> = Vec::new();
        for call in Observed::ALL.into_iter().filter(|&call| calls.can(call)) {
            cells.push(Cell::of(call.name()));
        }
        self.state = Some(State {
            calls,
            log,
            counters: counters.ok(),
            overhead: overhead(),
        });
        Ok(cells)
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let state = self.state.as_mut().context("not prepared")?;
        let call = Observed::named(&cell.contender)?;
        let time = Duration::from_millis(machine.pick((20, 50)));
        state.calls.begin(call)?;
        if let Some(log) = &mut state.log {
            log.take();
        }
        let mut counted = [0; 3];
        let start = Instant::now();
        let mut observed = Vec::new();
        while (observed.len() as u64) < MOST && (observed.len() < 2 || start.elapsed() < time) {
            observed.push(state.observe(call, &mut counted)?);
        }
        let many = observed.len() as f64;
        let sum = |part: fn(&Usage) -> f64| observed.iter().map(|(_, u)| part(u)).sum::<f64>();
        let less = |sum: f64, each: f64| (sum / many - each).max(0.0);
        let usage = Usage {
            wall: less(sum(|u| u.wall), state.overhead.wall),
            cpu: less(sum(|u| u.cpu), state.overhead.cpu),
            voluntary: sum(|u| u.voluntary) / many,
            involuntary: sum(|u| u.involuntary) / many,
        };
        let mut latency = Latency::new();
        for (_, usage) in &observed {
            latency.add((usage.wall - state.overhead.wall).max(0.0) as u64, 1);
        }
        let mut sample = Sample::of(TIME, Unit::Nanoseconds, usage.wall)
            .and(CPU, Unit::Nanoseconds, usage.cpu)
            .and(OFF_CPU, Unit::Share, usage.off_cpu())
            .and(SWITCHES, Unit::Count, usage.voluntary)
            .and(INVOLUNTARY, Unit::Count, usage.involuntary)
            .with_latency(latency);
        if state.counters.is_some() {
            let [switches, moves, clock] = counted.map(|count| count as f64 / many);
            sample = sample
                .and(COUNTED, Unit::Count, switches)
                .and(MIGRATIONS, Unit::Count, moves)
                .and(CLOCK, Unit::Nanoseconds, clock);
        }
        Ok(match &mut state.log {
            Some(log) => with_parts(sample, log, &observed),
            None => sample,
        })
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results)
    }
}

/// What one empty measurement costs: the least of many.
fn overhead() -> Usage {
    let mut least = Usage {
        wall: f64::INFINITY,
        cpu: f64::INFINITY,
        ..Usage::default()
    };
    for _ in 0..500 {
        let usage = Meter::start(Whose::Thread).stop();
        least.wall = least.wall.min(usage.wall);
        least.cpu = least.cpu.min(usage.cpu);
    }
    least
}

/// Adds the parts of the calls that the kernel has recorded.
fn with_parts(sample: Sample, log: &mut SwitchLog, observed: &[(u64, Usage)]) -> Sample {
    let moments = log.take();
    let parts: Vec<_> = observed
        .iter()
        .map(|(start, usage)| {
            let end = start + usage.wall as u64;
            let first = moments.partition_point(|moment| moment.ns < *start);
            let last = moments.partition_point(|moment| moment.ns <= end);
            divide(*start, end, &moments[first..last.max(first)])
        })
        .collect();
    let mean =
        |part: fn(&Parts) -> u64| parts.iter().map(part).sum::<u64>() as f64 / parts.len() as f64;
    let sample = sample
        .and(BEFORE, Unit::Nanoseconds, mean(|parts| parts.before))
        .and(ASLEEP, Unit::Nanoseconds, mean(|parts| parts.asleep))
        .and(AFTER, Unit::Nanoseconds, mean(|parts| parts.after));
    let sum = |part: fn(&Parts) -> u64| parts.iter().map(part).sum::<u64>() as f64;
    let (sleeps, wakeups) = (sum(|parts| parts.sleeps), sum(|parts| parts.wakeups));
    if wakeups < sleeps / 2.0 || wakeups == 0.0 {
        return sample;
    }
    let waking = sum(|parts| parts.waking) / wakeups;
    sample.and(WAKING, Unit::Nanoseconds, waking)
}

/// How often a call lets the thread sleep, in words.
fn frequency(switches: f64) -> &'static str {
    match switches {
        s if s < 0.05 => "never",
        s if s < 0.95 => "sometimes",
        _ => "always",
    }
}

fn answer(results: &Results) -> Answer {
    let at = |call: Observed, figure| results.estimate(call.name(), &[], figure);
    let mut answer = Answer::default();
    let mut sentence = String::new();
    for often in ["never", "sometimes", "always"] {
        let names: Vec<&str> = Observed::ALL
            .into_iter()
            .filter(|&call| at(call, SWITCHES).is_some_and(|s| frequency(s.value) == often))
            .map(Observed::name)
            .collect();
        if !names.is_empty() {
            let names = names.join(", ");
            sentence += &match often {
                "always" => format!("The thread always leaves the processor in: {names}. "),
                _ => format!("It {often} leaves the processor in: {names}. "),
            };
        }
    }
    if at(Observed::DirectRead, OFF_CPU).is_some() {
        sentence += "An O_DIRECT read of 4 KiB keeps it off the processor for {off} of {time}. ";
        answer = answer
            .with("off", at(Observed::DirectRead, OFF_CPU))
            .with("time", at(Observed::DirectRead, TIME));
    }
    let empty = at(Observed::EmptyPipe, CPU);
    if let Some((empty, full)) = empty.zip(at(Observed::FullPipe, CPU)) {
        let cost = empty.value - full.value;
        sentence += if cost > 0.0 {
            "Going to sleep and waking up costs {cost} of processor time: a read of an empty pipe \
             beside one of a full pipe. "
        } else {
            "Going to sleep and waking up costs no measurable processor time. "
        };
        let cost = Estimate::exact(Unit::Nanoseconds, cost.max(0.0));
        answer = answer.with("cost", Some(cost));
    }
    // The wake-up by a device is recorded only if its processor was busy.
    let calls = [
        Observed::DirectRead,
        Observed::FuseRead,
        Observed::EmptyPipe,
    ];
    let woken = calls
        .into_iter()
        .find_map(|call| Some((call, at(call, WAKING)?)));
    if let Some((call, waking)) = woken {
        let name = call.name();
        let article = if name.starts_with('O') { "an" } else { "a" };
        sentence +=
            &format!("Once {article} {name} is complete, the thread runs again after {{waking}}.");
        answer = answer.with("waking", Some(waking));
    }
    answer.sentence = match sentence.is_empty() {
        true => "What blocking calls do to the thread could not be measured.".to_owned(),
        false => sentence.trim_end().to_owned(),
    };
    answer
        .plot(Plot::bars("Voluntary switches a call", SWITCHES, false))
        .plot(Plot::bars(
            "Part of the call off the processor",
            OFF_CPU,
            false,
        ))
        .plot(Plot::bars("Processor time of the call", CPU, true))
        .plot(Plot::bars("Asleep", ASLEEP, true))
}

#[cfg(test)]
mod tests {
    use super::{SWITCHES, answer, frequency};
    use crate::study::cell::{Cell, Sample};
    use crate::study::results::{CellResults, Results};
    use crate::study::unit::Unit;

    #[test]
    fn frequencies_have_words() {
        assert_eq!(frequency(0.0), "never");
        assert_eq!(frequency(0.5), "sometimes");
        assert_eq!(frequency(2.3), "always");
    }

    #[test]
    fn the_sentence_follows_the_figures() {
        let sentence = |cached: f64| {
            let mut cell = CellResults::new(Cell::of("cached read"));
            cell.add(0, Sample::of(SWITCHES, Unit::Count, cached));
            cell.summarise();
            answer(&Results(vec![cell])).sentence
        };
        assert_eq!(
            sentence(0.0),
            "It never leaves the processor in: cached read."
        );
        assert_eq!(
            sentence(1.0),
            "The thread always leaves the processor in: cached read."
        );
    }
}
