//! The performance goals of Go programs.

use super::{Case, GoPhase, Participant, STOCK};
use crate::bench::rounds::Rounds;
use crate::measure::goals::Goal;

/// The rounds of the cases that were measured.
pub struct Measured<'a>(pub &'a [(Case, Rounds<GoPhase>)]);

/// What a ratio is relative to.
const TO_STOCK: &str = "x stock's";

type Figure = fn(&GoPhase) -> f64;

impl Measured<'_> {
    fn rounds(&self, case: Case) -> Option<&Rounds<GoPhase>> {
        let found = self.0.iter().find(|(other, _)| *other == case);
        found.map(|(_, rounds)| rounds)
    }

    /// The ratio to stock.
    fn ratio(&self, case: Case, who: Participant, figure: Figure) -> Option<f64> {
        let rounds = self.rounds(case)?;
        rounds.ratios(who.place(), STOCK, figure).median()
    }

    /// The pace of the goroutine that works beside the readers of `case`, relative to its pace
    /// in stock Go alone.
    fn pace(&self, case: Case) -> Option<f64> {
        let alone = Case {
            goroutines: 0,
            ..case
        };
        let alone = self.rounds(alone)?.median(STOCK, GoPhase::turns)?;
        let beside = self.rounds(case)?;
        let beside = beside.median(Participant::Converted.place(), GoPhase::turns)?;
        Some(beside / alone)
    }
}

/// The goals, of which those whose cases were not measured say so.
pub fn goals(measured: &Measured) -> Vec<Goal> {
    use Participant::{Block, Converted, LinuxAio};
    let rate: Figure = GoPhase::rate;
    let cpu: Figure = |phase| phase.phase.cpu_us();
    let p999: Figure = |phase| phase.p999_us;
    let direct = |goroutines, procs| Case::new("direct", goroutines, "none", procs);
    let busy = Case::new("direct", 32, "busy", 1);
    let at_least = |what: &str, limit, case, who, figure| {
        Goal::at_least(what, limit, TO_STOCK, measured.ratio(case, who, figure))
    };
    let at_most = |what: &str, limit, case, who, figure| {
        Goal::at_most(what, limit, TO_STOCK, measured.ratio(case, who, figure))
    };
    let many = measured.rounds(direct(128, 1));
    let threads = many
        .and_then(|rounds| rounds.median(Converted.place(), |phase| phase.phase.threads as f64));
    let pace = measured.pace(Case::new("direct", 32, "yield", 1));
    let mut goals = vec![
        at_least(
            "direct x 128, P=1: IOPS",
            3.0,
            direct(128, 1),
            Converted,
            rate,
        ),
        at_most(
            "direct x 128, P=1: CPU per read",
            0.4,
            direct(128, 1),
            Converted,
            cpu,
        ),
        Goal::at_most("direct x 128, P=1: threads", 5.0, "", threads),
        at_least(
            "direct x 128, P=2: IOPS",
            2.0,
            direct(128, 2),
            Converted,
            rate,
        ),
        at_most(
            "direct x 128, P=2: CPU per read",
            0.65,
            direct(128, 2),
            Converted,
            cpu,
        ),
        at_least("one reader, P=1: IOPS", 0.95, direct(1, 1), Converted, rate),
        at_least("one reader, P=2: IOPS", 0.95, direct(1, 2), Converted, rate),
        at_most(
            "direct x 32, P=1: p99.9",
            0.02,
            direct(32, 1),
            Converted,
            p999,
        ),
        Goal::at_least(
            "one that yields beside 32 readers: its pace",
            0.3,
            "x its pace alone",
            pace,
        ),
        at_least(
            "32 readers beside one that computes: IOPS",
            1.3,
            busy,
            Converted,
            rate,
        ),
        at_least(
            "one that computes beside 32 readers: its pace",
            20.0,
            busy,
            Converted,
            GoPhase::turns,
        ),
        at_most(
            "cached 4 KiB: CPU per read",
            1.02,
            Case::new("cached", 1, "none", 1),
            Converted,
            cpu,
        ),
        at_least(
            "cold x 128, P=1: IOPS",
            2.0,
            Case::new("cold", 128, "none", 1),
            Converted,
            rate,
        ),
    ];
    for who in [LinuxAio, Block] {
        let what = |figure| format!("{}, direct x 32, P=1: {figure}", who.name());
        goals.push(at_least(&what("IOPS"), 0.95, direct(32, 1), who, rate));
        goals.push(at_most(&what("p99.9"), 0.33, direct(32, 1), who, p999));
    }
    for (case, _) in measured.0.iter().filter(|(case, _)| case.is_program()) {
        goals.push(at_least(
            &format!("{}: rate", case.name()),
            0.97,
            *case,
            Converted,
            rate,
        ));
    }
    goals
}
