//! Decides whether a call had to wait: from the trace if it says so, otherwise by inference.

use super::row::{Decided, Kind, Outcome, Row};
use policy::Hint;

/// The actual outcome of a call, which only the oracle knows in advance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Truth {
    /// All data was available: the call only copies.
    Hit,
    /// The call waits for a device, a peer or the kernel's throttle.
    Miss,
}

/// Returns the truth of a row, and whether it had to be inferred. A call that took longer than
/// `limit` nanoseconds has waited, if nothing else says so.
pub fn of(row: &Row, limit: f64) -> (Truth, bool) {
    // A transfer that bypasses the page cache or writes through it always waits for the disk.
    let by_nature = match row.kind {
        Kind::Read => row.hint.contains(Hint::DIRECT),
        Kind::Write => row.hint.intersects(Hint::DIRECT.with(Hint::SYNC)),
        _ => false,
    };
    if by_nature {
        return (Truth::Miss, false);
    }
    match (row.outcome, row.decision) {
        (Outcome::Hit, _) => (Truth::Hit, false),
        (Outcome::Miss, _) => (Truth::Miss, false),
        // An `open` with RESOLVE_CACHED does not wait.
        (_, Decided::Inline) => (Truth::Hit, false),
        _ => (inferred(row, limit), true),
    }
}

/// Infers the outcome from the time the call took. A call whose data was cached takes as long as
/// its round, and a round takes longer the more fibers it runs.
fn inferred(row: &Row, limit: f64) -> Truth {
    let took = match row.decision {
        Decided::Submit | Decided::Try => row.parked_ns,
        Decided::Copy | Decided::Inline | Decided::Alone | Decided::Bound => row.inline_ns,
    };
    if took as f64 > limit {
        Truth::Miss
    } else {
        Truth::Hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::costs::Costs;
    use crate::simulate::row::parse_one;

    fn truth(row: &str) -> (Truth, bool) {
        let row = parse_one(row);
        let limit = Costs::default().longest_copy(&row);
        of(&row, limit)
    }

    #[test]
    fn what_was_seen_is_believed() {
        assert_eq!(
            truth("1,1,pread,3,0,1,1,0,0,0,0,try,hit,999999,0,0"),
            (Truth::Hit, false)
        );
        assert_eq!(
            truth("1,1,pread,3,0,1,1,0,0,0,0,submit,miss,1,1,0"),
            (Truth::Miss, false)
        );
        assert_eq!(
            truth("1,1,open,-1,0,0,0,-1,0,0,0,inline,-,900,0,0"),
            (Truth::Hit, false)
        );
    }

    #[test]
    fn a_direct_transfer_and_a_synced_write_always_wait() {
        assert_eq!(
            truth("1,1,pread,3,0,5,1,0,0,0,0,submit,-,1,1,0"),
            (Truth::Miss, false)
        );
        assert_eq!(
            truth("1,1,write,3,0,9,1,0,0,0,0,submit,-,1,1,0"),
            (Truth::Miss, false)
        );
        assert_eq!(
            truth("1,1,read,3,0,9,1,0,0,0,0,try,hit,1,1,0"),
            (Truth::Hit, false)
        );
    }

    #[test]
    fn the_rest_is_inferred_from_its_time_and_its_round() {
        assert_eq!(
            truth("1,1,fsync,3,0,1,0,-1,0,0,0,submit,-,1,700000,0"),
            (Truth::Miss, true)
        );
        assert_eq!(
            truth("1,1,fsync,3,0,1,0,-1,0,0,0,submit,-,1,9000,0"),
            (Truth::Hit, true)
        );
        // Among 63 other fibers, even a round without a wait takes longer than 200 us.
        assert_eq!(
            truth("1,1,read,3,0,2,9,-1,63,0,0,submit,-,1,200000,0"),
            (Truth::Hit, true)
        );
        assert_eq!(
            truth("1,1,read,3,0,2,9,-1,1,0,0,submit,-,1,200000,0"),
            (Truth::Miss, true)
        );
    }
}
