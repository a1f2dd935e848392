//! Question 5: the cost of waking a sleeping I/O thread.

mod bell;
mod scene;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::study::answer::Answer;
use crate::study::cell::{Cell, Position, Sample};
use crate::study::experiment::{About, Experiment};
use crate::study::instruments::idle_states::IdleStates;
use crate::study::machine::Machine;
use crate::study::plot::Plot;
use crate::study::results::Results;
use crate::study::unit::Unit;
use bell::{Bell, Way};
use scene::{Scene, processors};

const LATENCY: &str = "time until the sleeper runs";
const CALL: &str = "time of the call that wakes";
const CPU: &str = "CPU of the sleeper";

const CORE: &str = "core";
const SAME: &str = "same core";
const OTHER: &str = "other core";

const MACHINE: &str = "machine";
const SHORT: &str = "idle, 0.1 ms asleep";
const LONG: &str = "idle, 5 ms asleep";
const LOADED: &str = "loaded, 0.1 ms asleep";

/// The experiment.
#[derive(Default)]
pub struct Wakeup {
    processors: Vec<usize>,
}

impl Experiment for Wakeup {
    fn about(&self) -> About {
        About {
            question: 5,
            id: "wake-up",
            title: "Waking a sleeping I/O thread",
            method: "One thread wakes another that sleeps, both fixed to processors. The time runs \
                     from before the call until the sleeper reads the clock. On a loaded machine \
                     a third thread computes on each of these processors.",
            weight: (3.3, 24.0),
        }
    }

    fn available(&self, _: &Machine) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, _: &Machine, notes: &mut Vec<String>) -> Result<Vec<Cell>> {
        self.processors = processors()?;
        let mut cores = vec![SAME];
        match self.processors.len() {
            0 | 1 => notes.push("there is no other core to wake a thread on".to_owned()),
            _ => cores.push(OTHER),
        }
        let mut cells = Vec::new();
        for machine in [SHORT, LONG, LOADED] {
            for &core in &cores {
                let at = |way: Way| Cell::of(way.name()).at(CORE, core).at(MACHINE, machine);
                cells.extend(Way::ALL.map(at));
            }
        }
        Ok(cells)
    }

    fn measure(&mut self, machine: &Machine, cell: &Cell) -> Result<Sample> {
        let first = *self.processors.first().context("not prepared")?;
        let last = *self.processors.last().context("not prepared")?;
        let state = cell.word(MACHINE);
        let scene = Scene {
            sleeper: last,
            waker: if cell.word(CORE) == SAME { last } else { first },
            loaded: state == LOADED,
            asleep: match state {
                LONG => Duration::from_millis(5),
                _ => Duration::from_micros(100),
            },
        };
        let time = Duration::from_millis(machine.pick((15, 40)));
        let woken = scene.play(&Bell::new(Way::named(&cell.contender)?)?, time)?;
        Ok(Sample::of(LATENCY, Unit::Nanoseconds, woken.latency)
            .and(CALL, Unit::Nanoseconds, woken.call)
            .and(CPU, Unit::Nanoseconds, woken.sleeper_cpu)
            .with_latency(woken.latencies))
    }

    fn answer(&self, results: &Results) -> Answer {
        answer(results, &IdleStates::read())
    }
}

fn answer(results: &Results, idle: &IdleStates) -> Answer {
    let futex = |core: &str, machine: &str, figure| {
        let point = [(CORE, Position::from(core)), (MACHINE, machine.into())];
        results.estimate(Way::Futex.name(), &point, figure)
    };
    // On a machine with one processor there is no other core.
    let core = match futex(OTHER, SHORT, LATENCY) {
        Some(_) => OTHER,
        None => SAME,
    };
    let Some(short) = futex(core, SHORT, LATENCY) else {
        return Answer::new("Waking a thread could not be measured.");
    };
    let mut sentence = format!(
        "A thread that sleeps in a futex on the {core} runs {{short}} after it is woken, and the \
         call that wakes it takes {{call}}"
    );
    if core == OTHER && futex(SAME, SHORT, LATENCY).is_some() {
        sentence += "; on the same core it runs after {same}";
    }
    sentence += ".";
    if let Some(long) = futex(core, LONG, LATENCY) {
        sentence += match long.value / short.value {
            ratio if ratio > 1.2 => {
                " After 5 ms of sleep it takes {long}: the idle processor went into a slower state."
            }
            ratio if ratio < 0.8 => " After 5 ms of sleep it takes only {long}.",
            _ => {
                " After 5 ms of sleep it takes {long}, no longer: no slower idle state is entered."
            }
        };
    }
    if futex(core, LOADED, LATENCY).is_some() {
        sentence += " On a loaded machine it takes {loaded}.";
    }
    let by = |title: &str, figure: &str, core: &str| {
        Plot::lines(title, MACHINE, figure, true).only(CORE, core)
    };
    let mut answer = Answer::new(format!("{sentence} {}", idle.describe()))
        .with("short", Some(short))
        .with("call", futex(core, SHORT, CALL))
        .with("same", futex(SAME, SHORT, LATENCY))
        .with("long", futex(core, LONG, LATENCY))
        .with("loaded", futex(core, LOADED, LATENCY))
        .plot(by("Same core: time until the sleeper runs", LATENCY, SAME));
    if core == OTHER {
        answer = answer
            .plot(by(
                "Other core: time until the sleeper runs",
                LATENCY,
                OTHER,
            ))
            .plot(by("Other core: time of the call that wakes", CALL, OTHER));
    }
    answer.plot(by("Same core: processor time of the sleeper", CPU, SAME))
}

#[cfg(test)]
mod tests {
    use super::{CORE, LATENCY, LONG, MACHINE, OTHER, SHORT, answer};
    use crate::study::cell::{Cell, Sample};
    use crate::study::instruments::idle_states::IdleStates;
    use crate::study::results::{CellResults, Results};
    use crate::study::unit::Unit;

    #[test]
    fn the_sentence_follows_the_figures() {
        let sentence = |long: f64| {
            let mut results = Results::default();
            for (machine, ns) in [(SHORT, 10.0), (LONG, long)] {
                let cell = Cell::of("futex").at(CORE, OTHER).at(MACHINE, machine);
                let mut cell = CellResults::new(cell);
                cell.add(0, Sample::of(LATENCY, Unit::Nanoseconds, ns));
                cell.summarise();
                results.0.push(cell);
            }
            answer(&results, &IdleStates::default()).sentence
        };
        assert!(sentence(50.0).contains("went into a slower state"));
        assert!(sentence(10.0).contains("no slower idle state"));
        assert!(sentence(5.0).contains("only {long}"));
    }
}
