//! The example attaches to the shim, and its fibers overlap.

use std::path::PathBuf;

use testprogs::{Outcome, Run, Scratch, Stats};

/// The example, which cargo builds with the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let target = test.ancestors().nth(2).expect("the target directory");
    target.join("examples/sleepers")
}

fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.text().lines().map(str::to_owned).collect()
}

#[test]
fn fibers_sleep_at_the_same_time_with_the_shim_and_one_by_one_without() {
    let plain = Run::new(example()).run().success();
    let expected = ["first", "second", "third"]
        .map(|name| [format!("{name} sleeps"), format!("{name} is awake")])
        .concat();
    assert_eq!(lines(&plain), expected, "{}", plain.report());
    assert_eq!(
        plain.error_text(),
        "sleepers: libaioshim.so is not preloaded\n"
    );
    for engine in ["uring", "aio", "threads"] {
        let run = Run::new(example()).preload(true);
        let outcome = run.env("AIOSHIM_ENGINE", engine).run().success();
        let mut said = lines(&outcome);
        said[3..].sort();
        let all = ["sleeps", "is awake"]
            .map(|does| ["first", "second", "third"].map(|name| format!("{name} {does}")))
            .concat();
        assert_eq!(said, all, "{}", outcome.report());
        assert_eq!(outcome.error_text(), "");
    }
}

#[test]
fn its_reads_are_converted_and_the_statistics_name_it() {
    let dir = Scratch::new();
    let file = dir.file("data", vec![3_u8; 100_000]);
    let run = Run::new(example()).arg("read").arg(file).preload(true);
    let run = run.env("AIOSHIM_STATS", "json").env("AIOSHIM_OUT", "stats");
    let outcome = run.dir(dir.path()).run().success();
    let mut said = lines(&outcome);
    said.sort();
    let expected = ["first", "second", "third"].map(|name| format!("{name} read 300000"));
    assert_eq!(said, expected, "{}", outcome.report());
    let text = std::fs::read_to_string(dir.join("stats")).expect("statistics");
    assert!(text.contains("\"hosts\":[\"sleepers 1\"]"), "{text}");
    let stats = Stats::read(&dir.join("stats")).expect("statistics");
    assert!(stats.call("read").total() >= 3, "{text}");
}

#[test]
fn a_program_whose_shim_is_switched_off_is_told_so() {
    let run = Run::new(example()).preload(true).env("AIOSHIM", "off");
    let outcome = run.run().success();
    assert_eq!(
        outcome.error_text(),
        "sleepers: libaioshim.so is switched off\n"
    );
}
