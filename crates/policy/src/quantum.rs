//! Decides for how long a fiber whose calls never block keeps its thread: a pure function.

#![forbid(unsafe_code)]

/// How many calls a fiber may complete inline before it lets the thread's other fibers run.
pub const INLINE_BUDGET: u32 = 64;

/// How long a fiber may continue after that if no fiber waits in the shim, and how long the turns
/// of all runnable fibers together may take. A turn that ends before its data are used twice makes
/// the next one load them into the CPU's caches again. Longer turns would gain a little more, but
/// would delay sleeping fibers (docs/measured.md).
const MAX_QUANTUM_NS: u64 = 500_000;
const MAX_ROUND_NS: u64 = 16_000_000;
/// The same among fibers that all used up their last quantum, and that nothing has happened to
/// since: none of them is late, and threads would get turns of this length.
const MAX_QUANTUM_OF_EQUALS_NS: u64 = 3_000_000;
const MAX_ROUND_OF_EQUALS_NS: u64 = 400_000_000;

/// Whether the running fiber may continue. `nanos` is the time since it first exhausted
/// [`INLINE_BUDGET`], `runnable` the number of other runnable fibers. `others_can_wait` tells
/// whether all of these have used up their last quantum; asked only if that makes a difference.
pub fn may_continue(
    nanos: u64,
    runnable: u32,
    fibers_wait: bool,
    others_can_wait: impl FnOnce() -> bool,
) -> bool {
    let within = |quantum: u64, round: u64| nanos < quantum.min(round / u64::from(runnable));
    // If no other fiber is runnable, a scheduling round is free.
    runnable > 0
        && !fibers_wait
        && (within(MAX_QUANTUM_NS, MAX_ROUND_NS)
            || within(MAX_QUANTUM_OF_EQUALS_NS, MAX_ROUND_OF_EQUALS_NS) && others_can_wait())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_long_where_it_keeps_nobody_waiting_and_no_round_is() {
        let may = |nanos, runnable, fibers_wait| {
            [false, true].map(|can_wait| may_continue(nanos, runnable, fibers_wait, || can_wait))
        };
        assert_eq!(may(MAX_QUANTUM_NS - 1, 15, false), [true, true]);
        assert_eq!(may(MAX_QUANTUM_NS, 15, false), [false, true]);
        assert_eq!(may(MAX_QUANTUM_OF_EQUALS_NS, 15, false), [false, false]);
        assert_eq!(may(0, 15, true), [false, false]);
        assert_eq!(may(0, 0, false), [false, false]);
        for runnable in [1000, 10_000, u32::MAX] {
            let round = |nanos| nanos / u64::from(runnable);
            assert!(!may(round(MAX_ROUND_NS), runnable, false)[0]);
            assert_eq!(
                may(round(MAX_ROUND_OF_EQUALS_NS), runnable, false),
                [false; 2]
            );
        }
    }
}
