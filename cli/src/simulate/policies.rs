//! The policies that are compared: the shim's policy with and without its learning, policies that
//! always do the same, and the oracle.

use super::costs::Method;
use super::row::{Decided, Kind, Row};
use super::truth::Truth;
use policy::{Decision, Hint, Learned};

/// One policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// The shim's policy.
    Policy,
    /// The shim's policy without memory: it forgets the result of each try at once.
    Untaught,
    /// The shim's policy, but after [`TRUST`] hits in a row on a descriptor it makes plain calls
    /// instead of tries.
    Trusting,
    Always(Method),
    /// Knows the outcome and takes the cheapest way.
    Oracle,
}

/// The number of hits in a row after which the trusting policy makes plain calls.
const TRUST: u32 = 1024;

impl Contender {
    pub const ALL: [Self; 7] = [
        Self::Policy,
        Self::Untaught,
        Self::Trusting,
        Self::Always(Method::Submit),
        Self::Always(Method::Try),
        Self::Always(Method::Plain),
        Self::Oracle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "the policy",
            Self::Untaught => "the policy, untaught",
            Self::Trusting => "the policy, trusting",
            Self::Always(Method::Submit) => "always submit",
            Self::Always(Method::Try) => "always try",
            Self::Always(Method::Plain) => "always plain",
            Self::Oracle => "oracle",
        }
    }

    /// Returns whether the policy always does the same.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::Always(_))
    }
}

/// What a policy remembers about one descriptor.
#[derive(Clone, Copy)]
pub struct Memory {
    learned: Learned,
    /// The number of hits in a row.
    streak: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            learned: Learned::NOTHING,
            streak: 0,
        }
    }
}

impl Memory {
    /// Returns what `contender`, which must not be the oracle, does with a call. `refuses_tries`
    /// says that it has seen the file refuse a try.
    pub fn decide(&self, contender: Contender, row: &Row, refuses_tries: bool) -> Method {
        if let Contender::Always(method) = contender {
            return method;
        }
        let mut hint = row
            .hint
            .with_skip(self.learned.direction, self.learned.skip);
        if refuses_tries {
            hint = hint.with(row.refuses_nowait());
        }
        let decision = match row.kind {
            Kind::Read => policy::read(hint, row.load, row.bytes, row.at_position),
            Kind::Write => policy::write(hint, row.load, row.at_position),
            _ => return as_recorded(row),
        };
        match decision {
            Decision::Attempt if contender == Contender::Trusting && self.streak >= TRUST => {
                Method::Plain
            }
            Decision::Attempt => Method::Try,
            Decision::Submit => Method::Submit,
            Decision::PassThrough(_) | Decision::Inline => Method::Plain,
        }
    }

    /// Records what the policy learns from its own decision. It learns nothing from a plain read; a
    /// plain write was timed.
    pub fn learn(&mut self, contender: Contender, row: &Row, method: Method, truth: Truth) {
        if contender == Contender::Untaught {
            return;
        }
        let allowed = row.load.contention.allows_plain_call(row.hint);
        let watched =
            method == Method::Try || method == Method::Plain && !allowed && row.kind == Kind::Write;
        let side = match row.kind {
            Kind::Read => policy::Direction::Read,
            Kind::Write => policy::recorded_direction(row.hint, policy::Direction::Write),
            _ => return,
        };
        let batch = if row.at_position && row.hint.contains(Hint::SEEKABLE) {
            0
        } else {
            row.load.batch
        };
        self.learned = match (watched, truth) {
            (true, Truth::Hit) => self.learned.hit(side, batch),
            (true, Truth::Miss) => self.learned.missed(side, batch),
            (false, _) if method == Method::Submit => self.learned.submitted(side),
            (false, _) => self.learned,
        };
        self.streak = match truth {
            Truth::Hit => self.streak + 1,
            Truth::Miss => 0,
        };
    }
}

/// The decision for calls to which the policy's rules do not apply.
fn as_recorded(row: &Row) -> Method {
    match row.decision {
        Decided::Submit => Method::Submit,
        Decided::Inline | Decided::Try => Method::Try,
        Decided::Copy | Decided::Alone | Decided::Bound => Method::Plain,
    }
}

/// What the shim did with a call of the trace.
pub fn recorded(row: &Row) -> Method {
    as_recorded(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::row::parse_one;

    const READ: &str = "1,1,pread,3,0,1,4096,0,0,0,0,try,hit,1,0,0";

    #[test]
    fn the_policy_learns_from_its_tries_and_the_untaught_one_does_not() {
        let row = parse_one(READ);
        for (contender, after) in [
            (Contender::Policy, Method::Submit),
            (Contender::Untaught, Method::Try),
        ] {
            let mut memory = Memory::default();
            assert_eq!(memory.decide(contender, &row, false), Method::Try);
            for _ in 0..3 {
                memory.learn(contender, &row, Method::Try, Truth::Miss);
            }
            assert_eq!(memory.decide(contender, &row, false), after);
        }
    }

    #[test]
    fn trust_takes_a_thousand_hits_and_one_miss() {
        let (row, mut memory) = (parse_one(READ), Memory::default());
        for _ in 0..TRUST {
            assert_eq!(memory.decide(Contender::Trusting, &row, false), Method::Try);
            memory.learn(Contender::Trusting, &row, Method::Try, Truth::Hit);
        }
        assert_eq!(
            memory.decide(Contender::Trusting, &row, false),
            Method::Plain
        );
        memory.learn(Contender::Trusting, &row, Method::Plain, Truth::Miss);
        assert_ne!(
            memory.decide(Contender::Trusting, &row, false),
            Method::Plain
        );
    }

    #[test]
    fn an_fsync_goes_as_it_went() {
        let row = parse_one("1,1,fsync,3,0,1,0,-1,0,0,0,submit,-,1,700000,0");
        assert_eq!(
            Memory::default().decide(Contender::Policy, &row, false),
            Method::Submit
        );
    }
}
