//! A scheduler other than libfiber attaches to the shim: the example of docs/hosts.md, on every
//! engine.

use std::os::unix::process::ExitStatusExt;
use testprogs::{Flavor, Outcome, Refusal, Run, Scratch, Stats, cxx_program, program};

/// Many blocks for each fiber, and an incomplete block at the end.
const SIZE: u32 = 1_000_003;

/// Runs the example on a file; it must print the sum of the file's bytes.
fn minihost(change: impl FnOnce(Run) -> Run) -> (Outcome, Scratch) {
    let dir = Scratch::new();
    let bytes: Vec<u8> = (0..SIZE)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let file = dir.file("file", &bytes);
    let run = Run::new(program("host/minihost", Flavor::Plain)).arg(file);
    let outcome = change(run.dir(dir.path())).run().success();
    let sum: u64 = bytes.iter().copied().map(u64::from).sum();
    assert_eq!(
        outcome.text().trim(),
        sum.to_string(),
        "{}",
        outcome.report()
    );
    (outcome, dir)
}

#[track_caller]
fn says(outcome: &Outcome, expected: &str) {
    let text = outcome.error_text();
    let only = text.lines().count() == 1 && text.starts_with(&format!("minihost: {expected},"));
    assert!(only, "{}", outcome.report());
}

#[test]
fn runs_without_the_shim() {
    says(&minihost(|run| run).0, "not attached");
    says(
        &minihost(|run| run.preload(true).env("AIOSHIM", "off")).0,
        "not attached",
    );
}

#[test]
fn attaches_and_its_reads_are_taken() {
    let (outcome, dir) = minihost(|run| {
        run.preload(true)
            .env("AIOSHIM_STATS", "json")
            .env("AIOSHIM_OUT", "stats")
    });
    says(&outcome, "attached");
    let pread = Stats::read(&dir.join("stats"))
        .expect("statistics")
        .call("pread");
    assert_eq!(pread.total(), u64::from(SIZE.div_ceil(4096)), "{pread:?}");
    assert_eq!(pread.converted + pread.inline, pread.total(), "{pread:?}");
}

#[test]
fn runs_without_io_uring() {
    minihost(|run| run.preload(true).env("AIOSHIM_ENGINE", "sync"));
    for refusal in Refusal::ALL {
        let Some(launcher) = refusal.launcher() else {
            return;
        };
        minihost(|run| run.preload(true).under(launcher));
    }
}

/// Runs a scheduler with special requirements in one of its modes, on every engine.
#[track_caller]
fn requires(mode: &str) {
    requires_on(mode, &["uring", "aio", "threads", "sync"]);
}

#[track_caller]
fn requires_on(mode: &str, engines: &[&str]) {
    for engine in engines {
        let run = Run::new(program("host/requirements", Flavor::Plain))
            .arg(mode)
            .preload(true);
        let outcome = run.env("AIOSHIM_ENGINE", *engine).run().success();
        assert_eq!(outcome.text(), "done\n", "{engine}: {}", outcome.report());
    }
}

#[test]
fn is_not_parked_in_a_lock_when_it_leaves_them_to_libc() {
    requires("locks");
}

#[test]
fn runs_no_other_fiber_in_the_child_of_a_fork() {
    requires("fork");
}

#[test]
fn says_that_a_fiber_was_resumed_on_another_thread() {
    let run = Run::new(program("host/requirements", Flavor::Plain)).arg("moved");
    let outcome = run.preload(true).run();
    let text = outcome.error_text();
    assert_eq!(outcome.status.signal(), Some(6), "{}", outcome.report());
    assert!(
        text.starts_with("aioshim: the scheduler resumed a fiber on thread ")
            && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn says_that_park_returned_before_unpark() {
    let run = Run::new(program("host/requirements", Flavor::Plain)).arg("early");
    let outcome = run.preload(true).env("AIOSHIM_CHECK", "1").run();
    assert_eq!(outcome.status.signal(), Some(6), "{}", outcome.report());
    let text = outcome.error_text();
    assert!(
        text.contains("park returned before its unpark: the fiber still waits in nanosleep\n"),
        "{text}"
    );
}

#[test]
fn is_woken_where_it_sleeps() {
    requires("elsewhere");
}

/// Without an engine, an event loop and a read block the thread.
#[test]
fn ends_its_event_loops_as_if_their_time_were_up() {
    requires_on("expire", &["uring", "aio", "threads"]);
}

#[test]
fn counts_the_fibers_that_only_another_fiber_can_wake() {
    requires_on("blocked", &["uring", "aio", "threads"]);
}

/// A pool thread runs the function, so the fiber that waits for it is not in a deadlock.
#[test]
fn counts_no_fiber_whose_function_runs_on_the_pool() {
    requires_on("functions", &["uring", "aio", "threads"]);
}

/// Runs a host with another version of the table on every engine.
#[track_caller]
fn attaches(source: &str) {
    for engine in ["uring", "aio", "threads"] {
        let run = Run::new(program(source, Flavor::Plain)).preload(true);
        let outcome = run.env("AIOSHIM_ENGINE", engine).run().success();
        assert_eq!(outcome.text(), "done\n", "{engine}: {}", outcome.report());
    }
}

#[test]
fn attaches_a_host_of_the_first_version() {
    attaches("host/first_version");
}

#[test]
fn attaches_a_host_without_optional_callbacks() {
    attaches("host/no_options");
}

#[test]
fn ignores_what_a_later_version_adds() {
    attaches("host/later_version");
}

#[test]
fn lets_no_fiber_yield_that_does_not_wait_if_the_host_refuses() {
    requires("yields");
}

#[test]
fn is_not_made_to_yield_in_a_park_that_polls() {
    for engine in ["uring", "aio", "threads"] {
        let run = Run::new(program("host/polling_park", Flavor::Plain)).preload(true);
        let outcome = run.env("AIOSHIM_ENGINE", engine).run();
        if outcome.status.code() == Some(77) {
            return testprogs::skip(&outcome.error_text());
        }
        let text = outcome.success().text();
        assert_eq!(text, "done\n", "{engine}");
    }
}

/// Runs a mode of a scheduler that uses the table's second version, on every engine.
#[track_caller]
fn uses(mode: &str) {
    for engine in ["uring", "aio", "threads"] {
        let dir = Scratch::new();
        let run = Run::new(program("host/verbs", Flavor::Plain))
            .arg(mode)
            .dir(dir.path())
            .preload(true);
        let outcome = run.env("AIOSHIM_ENGINE", engine).run().success();
        assert_eq!(outcome.text(), "done\n", "{engine}: {}", outcome.report());
    }
}

#[test]
fn is_woken_in_its_own_event_loop_by_a_descriptor() {
    uses("arm");
}

#[test]
fn sleeps_in_the_shim_until_its_own_descriptor_is_ready() {
    uses("watch");
}

#[test]
fn a_fiber_finds_nothing_of_an_ended_one_at_the_same_address() {
    uses("ended");
}

#[test]
fn keeps_exceptions_locales_and_errno_over_switches_of_its_own() {
    uses("values");
}

#[test]
fn yields_by_its_own_callback() {
    uses("yield");
}

#[test]
fn is_named_in_the_statistics_with_the_number_of_its_fibers() {
    let dir = Scratch::new();
    for (format, expected) in [
        ("1", ", host: test host 2.0, fibers: 5 started, 5 ended\n"),
        (
            "json",
            "\"fibers\":{\"ended\":5,\"started\":5},\"hosts\":[\"test host 2.0\"]",
        ),
    ] {
        let run = Run::new(program("host/verbs", Flavor::Plain)).arg("counts");
        let run = run.preload(true).env("AIOSHIM_STATS", format);
        let outcome = run.dir(dir.path()).run().success();
        let text = outcome.error_text();
        assert!(text.contains(expected), "{}", outcome.report());
    }
}

#[test]
fn its_fibers_may_move_between_threads_between_their_calls() {
    for engine in ["uring", "aio", "threads"] {
        let dir = Scratch::new();
        let run = Run::new(program("host/moving", Flavor::Plain)).preload(true);
        let run = run.dir(dir.path()).env("AIOSHIM_ENGINE", engine);
        let outcome = run.run().success();
        assert_eq!(outcome.text(), "done\n", "{engine}: {}", outcome.report());
    }
}

#[test]
fn attaches_a_host_in_cxx() {
    let dir = Scratch::new();
    let Some(program) = cxx_program("host/cxx_host", &["-Wpedantic"], dir.path()) else {
        return;
    };
    let file = dir.file("file", [7; 20_000]);
    let plain = Run::new(&program).arg(&file).run().success();
    assert_eq!(plain.text(), "140000\n".repeat(8), "{}", plain.report());
    for engine in ["uring", "aio", "threads"] {
        let run = Run::new(&program).arg(&file).preload(true);
        let outcome = run.env("AIOSHIM_ENGINE", engine).run().success();
        assert_eq!(outcome.text(), plain.text(), "{}", outcome.report());
        assert_eq!(outcome.error_text(), "cxx_host: attached\n");
    }
}
