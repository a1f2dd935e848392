//! A cancelled wait leaves nothing behind.

use testprogs::{Flavor, Run, Scratch, Stats, program};

/// The number of pool threads in unbounded waits is limited. If cancelled waits kept their slot,
/// the last of these waits would get no thread.
#[test]
fn cancelled_waits_leave_their_threads_to_others() {
    let dir = Scratch::new();
    let report = dir.path().join("stats");
    let run = Run::new(program("every/cancel_one_by_one", Flavor::Plain))
        .arg("-w1")
        .preload(true)
        .env("AIOSHIM_THREADS", "8")
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", &report)
        .run()
        .success();
    assert_eq!(run.text(), "cancelled: 100\nin a loop: 1\n");
    let text = std::fs::read_to_string(&report).expect("the report");
    let stats = Stats::parse(&text).expect("statistics");
    assert_eq!(stats.call("msgrcv").offloaded, 100, "{text}");
}
