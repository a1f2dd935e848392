//! The policies that are compared: the shim's policy with and without its learning, policies that
//! always do the same, and the oracle.

use super::costs::Method;
use super::row::{Decided, Kind, Row};
use super::truth::Truth;
use policy::{Decision, Hint, Learned, Streak};

/// One policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// The shim's policy.
    Policy,
    /// The shim's policy without memory: it forgets the result of each try at once.
    Untaught,
    /// The shim's policy, but it makes tries however many have hit before.
    AlwaysTrying,
    Always(Method),
    /// Knows the outcome and takes the cheapest way.
    Oracle,
}

impl Contender {
    pub const ALL: [Self; 7] = [
        Self::Policy,
        Self::Untaught,
        Self::AlwaysTrying,
        Self::Always(Method::Submit),
        Self::Always(Method::Try),
        Self::Always(Method::Plain),
        Self::Oracle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "the policy",
            Self::Untaught => "the policy, untaught",
            Self::AlwaysTrying => "the policy, without plain reads",
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

/// What a policy remembers about one thread.
#[derive(Clone, Copy)]
pub struct ThreadMemory(Streak);

impl Default for ThreadMemory {
    fn default() -> Self {
        Self(Streak::NONE)
    }
}

impl ThreadMemory {
    /// Records the outcome of a read from a file, which took `nanos` on the thread.
    fn learn(&mut self, contender: Contender, method: Method, truth: Truth, nanos: u64) {
        if matches!(contender, Contender::Untaught | Contender::AlwaysTrying) {
            return;
        }
        self.0 = match (method, truth) {
            (Method::Try, Truth::Hit) => self.0.hit(),
            (Method::Try, Truth::Miss) => self.0.missed(),
            (Method::Plain, Truth::Miss) if self.0.is_long() => self.0.waited(nanos),
            _ => self.0,
        };
    }
}

/// What a policy remembers about one descriptor.
#[derive(Clone, Copy)]
pub struct Memory {
    learned: Learned,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            learned: Learned::NOTHING,
        }
    }
}

impl Memory {
    /// Returns what `contender`, which must not be the oracle, does with a call. `refuses_tries`
    /// says that it has seen the file refuse a try.
    pub fn decide(
        &self,
        thread: &ThreadMemory,
        contender: Contender,
        row: &Row,
        refuses_tries: bool,
    ) -> Method {
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
            Kind::Read => policy::read(hint, row.load, row.bytes, row.at_position, thread.0),
            Kind::Write => policy::write(hint, row.load, row.at_position),
            _ => return as_recorded(row),
        };
        match decision {
            Decision::Attempt => Method::Try,
            Decision::Submit => Method::Submit,
            Decision::PassThrough(_) | Decision::Inline => Method::Plain,
        }
    }

    /// Records what the policy learns from its own decision, which kept the thread for `nanos`. A
    /// plain call was timed if it could delay other fibers.
    pub fn learn(
        &mut self,
        thread: &mut ThreadMemory,
        contender: Contender,
        row: &Row,
        (method, truth): (Method, Truth),
        nanos: u64,
    ) {
        if contender == Contender::Untaught {
            return;
        }
        let allowed = row.load.contention.allows_plain_call(row.hint);
        let timed = method == Method::Plain && !allowed;
        let watched = method == Method::Try
            || timed && (row.kind == Kind::Write || truth == Truth::Miss && thread.0.is_long());
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
        if row.kind == Kind::Read && row.hint.contains(Hint::SEEKABLE) && !allowed {
            thread.learn(contender, method, truth, nanos);
        }
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

    /// Of a file that has answered a try.
    const READ: &str = "1,1,pread,3,0,257,4096,0,0,0,0,try,hit,1,0,0";
    const DISK_NS: u64 = 70_000;

    /// Makes the contender decide about a row, and tells it the outcome.
    fn make(
        memory: &mut (Memory, ThreadMemory),
        contender: Contender,
        row: &Row,
        truth: Truth,
    ) -> Method {
        let method = memory.0.decide(&memory.1, contender, row, false);
        let outcome = (method, truth);
        memory
            .0
            .learn(&mut memory.1, contender, row, outcome, DISK_NS);
        method
    }

    #[test]
    fn the_policy_learns_from_its_tries_and_the_untaught_one_does_not() {
        let row = parse_one(READ);
        for (contender, after) in [
            (Contender::Policy, Method::Submit),
            (Contender::Untaught, Method::Try),
        ] {
            let mut memory = Default::default();
            assert_eq!(make(&mut memory, contender, &row, Truth::Miss), Method::Try);
            while make(&mut memory, contender, &row, Truth::Miss) != after {}
        }
    }

    #[test]
    fn many_hits_in_a_row_earn_plain_calls_until_one_waits() {
        let row = parse_one(READ);
        let longest = |contender| {
            let (mut memory, mut tries) = (Default::default(), 0);
            while tries < 20_000 && make(&mut memory, contender, &row, Truth::Hit) == Method::Try {
                tries += 1;
            }
            let next = make(&mut memory, contender, &row, Truth::Miss);
            (tries, next, make(&mut memory, contender, &row, Truth::Hit))
        };
        let (tries, waits, then) = longest(Contender::Policy);
        assert!((5000..20_000).contains(&tries), "{tries}");
        assert_eq!(waits, Method::Plain);
        assert_ne!(then, Method::Plain);
        assert_eq!(longest(Contender::AlwaysTrying).0, 20_000);
    }

    #[test]
    fn an_fsync_goes_as_it_went() {
        let row = parse_one("1,1,fsync,3,0,1,0,-1,0,0,0,submit,-,1,700000,0");
        let method = make(
            &mut Default::default(),
            Contender::Policy,
            &row,
            Truth::Miss,
        );
        assert_eq!(method, Method::Submit);
    }
}
