//! Compares fibers with the others, program by program. This makes the verdict in words,
//! the list of lost comparisons, and the goals.

use super::Run;
use super::case::{Case, Kind, Participant, Work};
use crate::bench::samples::Samples;
use crate::measure::goals::Goal;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Time,
    Cpu,
    Rate,
    P99,
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Figure::Time => "time",
            Figure::Cpu => "CPU",
            Figure::Rate => "operations per second",
            Figure::P99 => "p99",
        }
    }

    fn of(self, run: &Run) -> f64 {
        match self {
            Figure::Time => run.ms(),
            Figure::Cpu => run.cpu_us_each(),
            Figure::Rate => run.rate(),
            Figure::P99 => run.p99_us(),
        }
    }
}

/// A goal that several comparisons share; the worst of them decides.
struct Family {
    what: &'static str,
    figure: Figure,
    /// The highest ratio, or for a rate the lowest.
    limit: f64,
    unit: &'static str,
    is_about: fn(Work) -> bool,
    fibers: fn(&Participant) -> bool,
    /// The fastest of these is the opponent.
    others: fn(&Participant) -> bool,
}

fn by_fibers(participant: &Participant, wanted: u32) -> bool {
    matches!(participant.kind, Kind::Fibers { workers, .. } if workers == wanted)
}

fn two_workers(participant: &Participant) -> bool {
    by_fibers(participant, 2)
}

fn any_fibers(participant: &Participant) -> bool {
    matches!(participant.kind, Kind::Fibers { .. }) && !participant.one_core
}

fn pthreads(participant: &Participant) -> bool {
    matches!(participant.kind, Kind::Pthreads { .. }) && !participant.one_core
}

fn is_index(work: Work) -> bool {
    matches!(work, Work::Index { .. })
}

fn is_http(work: Work) -> bool {
    matches!(work, Work::Http { .. })
}

/// A program whose time on two workers is compared with that of the fastest pthreads.
const fn program(what: &'static str, is_about: fn(Work) -> bool) -> Family {
    Family {
        what,
        figure: Figure::Time,
        limit: 1.05,
        unit: "x the fastest pthreads'",
        is_about,
        fibers: two_workers,
        others: pthreads,
    }
}

/// A figure of the file server, compared with that of a thread for each connection.
const fn file_server(what: &'static str, figure: Figure) -> Family {
    Family {
        what,
        figure,
        limit: 1.0,
        unit: "x a thread a connection",
        is_about: is_http,
        fibers: any_fibers,
        others: pthreads,
    }
}

static FAMILIES: [Family; 12] = [
    Family {
        limit: 1.0,
        ..program("indexer on 2 workers: time", is_index)
    },
    Family {
        limit: 1.0,
        figure: Figure::Cpu,
        ..program("indexer on 2 workers: CPU", is_index)
    },
    Family {
        unit: "x the fastest pthreads' on one core",
        fibers: |participant| by_fibers(participant, 1) && participant.one_core,
        others: |participant| {
            matches!(participant.kind, Kind::Pthreads { .. }) && participant.one_core
        },
        ..program("indexer on one core: time", is_index)
    },
    file_server("file server: requests per second", Figure::Rate),
    file_server("file server: CPU per request", Figure::Cpu),
    file_server("file server: p99", Figure::P99),
    Family {
        limit: 0.9,
        unit: "x nginx",
        fibers: two_workers,
        others: |participant| participant.kind == Kind::Nginx,
        ..file_server("file server: requests per second", Figure::Rate)
    },
    program("key-value server: time", |work| {
        matches!(work, Work::KeyValue { .. })
    }),
    program("log writer: time", |work| matches!(work, Work::Log { .. })),
    program("copy of a tree: time", |work| work == Work::Copy),
    program("fork and exec: time", |work| {
        matches!(work, Work::Spawn { .. })
    }),
    Family {
        figure: Figure::Rate,
        limit: 1.9,
        unit: "x 1 worker",
        others: |participant| by_fibers(participant, 1),
        ..program("split computation on 2 workers: speed", |work| {
            matches!(work, Work::Split { .. })
        })
    },
];

/// A comparison of fibers with the fastest of their opponents.
pub struct Duel<'a> {
    family: &'static Family,
    case: &'a Case,
    fibers: &'static str,
    other: &'static str,
    ratio: f64,
    ratios: Samples,
}

impl Duel<'_> {
    /// How far the ratio is beyond the limit: above 1 the goal is missed.
    fn excess(&self) -> f64 {
        self.excess_of(self.ratio)
    }

    fn excess_of(&self, ratio: f64) -> f64 {
        match self.family.figure {
            Figure::Rate => self.family.limit / ratio,
            _ => ratio / self.family.limit,
        }
    }

    /// Whether the fibers lose in the quartile that favours them, too.
    fn is_clear(&self) -> bool {
        self.ratios
            .quartiles()
            .is_some_and(|(low, high)| self.excess_of(low).min(self.excess_of(high)) > 1.0)
    }

    fn is_won(&self) -> bool {
        self.excess() <= 1.0
    }
}

/// All comparisons that have figures.
pub fn duels(cases: &[Case]) -> Vec<Duel<'_>> {
    let mut duels = Vec::new();
    for family in &FAMILIES {
        for case in cases.iter().filter(|case| (family.is_about)(case.work)) {
            for who in case.those(family.fibers) {
                let others = case.those(family.others);
                let Some((other, _)) = case.rounds.highest(others, who, Run::rate) else {
                    continue;
                };
                let ratios = case.rounds.ratios(who, other, |run| family.figure.of(run));
                if let Some(ratio) = ratios.median() {
                    duels.push(Duel {
                        family,
                        case,
                        fibers: case.participants[who].name,
                        other: case.participants[other].name,
                        ratio,
                        ratios,
                    });
                }
            }
        }
    }
    duels
}

/// Says in words how the fibers did.
pub fn verdict(duels: &[Duel]) -> String {
    let won = duels.iter().filter(|duel| duel.is_won()).count();
    let worst = duels
        .iter()
        .filter(|duel| !duel.is_won())
        .max_by(|a, b| a.excess().total_cmp(&b.excess()));
    let counted = format!(
        "Whole programs: fibers meet the goal in {won} of {} comparisons",
        duels.len()
    );
    match worst {
        Some(duel) => format!(
            "{counted}; the worst is {} ({}), {:.2}{}",
            duel.family.what, duel.case.name, duel.ratio, duel.family.unit
        ),
        None => counted,
    }
}

/// A line for each comparison that the fibers lose, the worst first.
pub fn losses(duels: &[Duel]) -> Vec<String> {
    let mut lost: Vec<&Duel> = duels.iter().filter(|duel| !duel.is_won()).collect();
    lost.sort_by(|a, b| b.excess().total_cmp(&a.excess()));
    let line = |duel: &&Duel| {
        let word = if duel.is_clear() {
            ""
        } else {
            ", but not in the better quartile"
        };
        format!(
            "loses: {}: {}, {} against {}: {}{word}",
            duel.case.name,
            duel.family.figure.name(),
            duel.fibers,
            duel.other,
            duel.ratios.describe()
        )
    };
    lost.iter().map(line).collect()
}

/// A goal for each family, about its worst comparison, and one about lost requests.
pub fn goals(cases: &[Case], duels: &[Duel]) -> Vec<Goal> {
    let goal = |family: &'static Family| {
        let worst = duels
            .iter()
            .filter(|duel| std::ptr::eq(duel.family, family))
            .max_by(|a, b| a.excess().total_cmp(&b.excess()));
        let what = match worst {
            Some(duel) => format!(
                "{}, worst case ({}, {} against {})",
                family.what, duel.case.name, duel.fibers, duel.other
            ),
            None => family.what.to_owned(),
        };
        let ratio = worst.map(|duel| duel.ratio);
        match family.figure {
            Figure::Rate => Goal::at_least(what, family.limit, family.unit, ratio),
            _ => Goal::at_most(what, family.limit, family.unit, ratio),
        }
    };
    let mut goals: Vec<Goal> = FAMILIES.iter().map(goal).collect();
    let servers = cases.iter().filter(|case| case.work.is_server());
    let failed = servers.flat_map(|case| {
        case.those(any_fibers)
            .into_iter()
            .filter(|&who| case.rounds.median(who, Run::failed).is_some())
            .map(|who| case.failed_requests(who))
    });
    let failed = failed.reduce(|all, more| all + more);
    goals.push(Goal::at_most(
        "failed requests to fibers, in all rounds",
        0.0,
        "",
        failed,
    ));
    goals
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::{duels, goals, losses, verdict};
    use crate::measure::whole_programs::case::{CREWS_OF_64, Case, SERVERS, Work};
    use crate::measure::whole_programs::run::Run;

    fn run(ns: u64, cpu_us_each: f64, p99_us: f64, failed: u64) -> Run {
        Run {
            operations: 100,
            sum: 0,
            ns,
            cpu_us_each,
            p50_us: p99_us / 2.0,
            p99_us,
            p999_us: p99_us,
            failed,
        }
    }

    fn server(name: &str) -> Case {
        let work = Work::Http {
            bytes: 4096,
            connections: 64,
            keep_alive: true,
            requests: 100,
        };
        Case::new(name, work, &SERVERS)
    }

    #[test]
    fn the_worst_comparison_decides_the_goal() {
        let mut fast = server("fast");
        fast.rounds.add(&mut Vec::new(), |who| {
            // A thread a connection, fibers on one worker, on two, nginx.
            Ok(run([2000, 1000, 1000, 1000][who], 10.0, 1.0, 0))
        });
        let mut slow = server("slow");
        slow.rounds.add(&mut Vec::new(), |who| {
            Ok(run([1000, 2000, 1000, 1000][who], 10.0, 1.0, 3))
        });
        let cases = [fast, slow];
        let duels = duels(&cases);
        // Four figures in each case; nginx is compared with two workers only.
        assert_eq!(duels.len(), 14);
        assert_eq!(
            verdict(&duels),
            "Whole programs: fibers meet the goal in 13 of 14 comparisons; the worst is file \
            server: requests per second (slow), 0.50x a thread a connection"
        );
        assert_eq!(
            losses(&duels),
            [
                "loses: slow: operations per second, fibers, 1 worker against a thread a \
                connection: 0.50x 0.50..0.50"
            ]
        );
        let said: Vec<String> = goals(&cases, &duels)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said[3],
            "bar: file server: requests per second, worst case (slow, fibers, 1 worker against a \
            thread a connection) >= 1.00x a thread a connection: 0.50x a thread a connection missed"
        );
        assert_eq!(
            said.last().map(String::as_str),
            Some("bar: failed requests to fibers, in all rounds <= 0.00: 6.00 missed")
        );
    }

    #[test]
    fn what_did_not_run_is_not_judged() {
        let mut log = Case::new("log", Work::Log { records: 1 }, &CREWS_OF_64);
        let mut failures = Vec::new();
        log.rounds.add(&mut failures, |who| match who {
            0 => bail!("it failed"),
            _ => Ok(run(1000, 1.0, 0.0, 0)),
        });
        let cases = [log];
        let duels = duels(&cases);
        assert!(duels.is_empty());
        assert_eq!(
            verdict(&duels),
            "Whole programs: fibers meet the goal in 0 of 0 comparisons"
        );
        let said: Vec<String> = goals(&cases, &duels)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(said.iter().all(|goal| goal.ends_with(": not measured")));
    }

    #[test]
    fn two_workers_split_a_computation() {
        let mut split = Case::new("split", Work::Split { turns: 1 }, &CREWS_OF_64);
        split.rounds.add(&mut Vec::new(), |who| {
            Ok(run([1000, 2000, 1000][who], 1.0, 0.0, 0))
        });
        let cases = [split];
        let duels = duels(&cases);
        let said: Vec<String> = goals(&cases, &duels)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said[11],
            "bar: split computation on 2 workers: speed, worst case (split, 64 fibers, 2 workers \
            against 64 fibers, 1 worker) >= 1.90x 1 worker: 2.00x 1 worker ok"
        );
    }
}
