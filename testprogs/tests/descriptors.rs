//! Processes with a low limit on descriptors or on address space. The shim leaves the numbers below
//! 10 to the program; if no others are available, it works without descriptors.

use testprogs::{Flavor, Outcome, Run, Scratch, Tool, program, shared_object};

const ENGINES: [&str; 3] = ["uring", "aio", "threads"];

fn few(args: &[&str], workers: &str) -> Run {
    Run::new(program("resources/few_descriptors", Flavor::Plain))
        .args(args)
        .env("FIBER_WORKERS", workers)
}

/// Runs the program with each engine. The expected output is that of a program that has the numbers
/// from 3 to 9 for itself. (There is no plain run to compare with: without the shim the fibers
/// would block their thread forever.)
#[track_caller]
fn same_with_each_engine(args: &[&str]) -> Vec<Outcome> {
    let full = args.len() > 1;
    let expected = if full {
        "child: 0\n"
    } else {
        "child: 10240\nlow: 4\nopened: 7\nopened: 8\nopened: 9\n"
    };
    let mut outcomes = Vec::new();
    for engine in ENGINES {
        for workers in ["1", "3"] {
            let run = few(args, workers)
                .preload(true)
                .env("AIOSHIM_ENGINE", engine)
                .env("AIOSHIM_STATS", "json");
            let outcome = run.run().success();
            assert_eq!(outcome.text(), expected, "{engine}: {}", outcome.report());
            outcomes.push(outcome);
        }
    }
    outcomes
}

#[test]
fn the_shim_takes_no_number_below_10() {
    for limit in ["1024", "64", "40", "20"] {
        same_with_each_engine(&[limit]);
    }
}

#[test]
fn without_a_number_from_10_on_the_pool_of_threads_does_everything() {
    for outcome in same_with_each_engine(&["10"])
        .into_iter()
        .chain(same_with_each_engine(&["20", "full"]))
    {
        let told = outcome.error_text();
        assert!(
            told.contains("threads without descriptors"),
            "{}",
            outcome.report()
        );
    }
}

#[test]
fn a_program_inherits_only_the_standard_streams() {
    let listed = Run::new("/bin/ls").arg("/proc/self/fd").output();
    // ls opens the directory.
    assert_eq!(listed, "0\n1\n2\n3\n");
}

#[test]
fn a_program_inherits_no_number_that_the_caller_of_the_tests_has_left_open() {
    let tests = std::env::current_exe().expect("the path of this program");
    let script = "exec \"$0\" --exact a_program_inherits_only_the_standard_streams 9<&0";
    Run::new("/bin/sh")
        .args(["-c", script])
        .arg(tests)
        .run()
        .success();
}

#[test]
fn a_shell_opens_the_numbers_it_names_with_64_descriptors() {
    let Some(bash) = Tool::find("bash") else {
        return;
    };
    let script = "ulimit -n 64; exec $BASH -c 'exec 3>a 4>b 5>c 9>d && echo x >&4 && cat b; exec \
        {n}>e; echo $n; rm ?'";
    let run = |engine: Option<&str>| {
        let dir = testprogs::Scratch::new();
        let run = Run::new(bash.path()).args(["-c", script]).dir(dir.path());
        let run = match engine {
            Some(engine) => run
                .preload(true)
                .env("AIOSHIM_MAIN", "fiber")
                .env("AIOSHIM_ENGINE", engine),
            None => run,
        };
        let outcome = run.run().success();
        (outcome.text(), outcome.error_text())
    };
    let plain = run(None);
    for engine in ENGINES {
        assert_eq!(run(Some(engine)), plain, "{engine}");
    }
}

#[test]
fn fibers_without_a_stack_start_when_there_is_memory_again() {
    for workers in ["1", "3"] {
        let run = || {
            let program = program("resources/short_of_stacks", Flavor::Plain);
            Run::new(program).arg(workers)
        };
        let expected = "all have started\n";
        assert_eq!(run().output(), expected, "without the shim, {workers}");
        for engine in ENGINES {
            let preloaded = run().preload(true).env("AIOSHIM_ENGINE", engine);
            assert_eq!(preloaded.output(), expected, "{engine}, {workers}");
        }
    }
}

/// Runs a program with a library that refuses to map a part of a ring if it is longer than `limit`.
/// Returns its output and its report.
fn with_short_mappings(limit: &str) -> (String, String) {
    let dir = Scratch::new();
    let report = dir.join("report");
    let outcome = Run::new("/bin/ls")
        .arg("/proc/self/fd")
        .preload_also(&shared_object("environment/short_mappings", Flavor::Plain))
        .preload(true)
        .env("LONGEST_MAPPING", limit)
        .env("AIOSHIM_MAIN", "fiber")
        .env("AIOSHIM_STATS", "1")
        .env("AIOSHIM_OUT", &report)
        .run()
        .success();
    let report = std::fs::read_to_string(report).expect("the report");
    (outcome.text(), report)
}

#[test]
fn a_ring_that_cannot_be_mapped_gets_smaller_queues_and_leaves_no_descriptor() {
    let (with_all, report) = with_short_mappings("1000000000");
    if !report.contains("engine: io_uring") {
        return testprogs::skip("io_uring is not available");
    }
    let (with_short, report) = with_short_mappings("16384");
    assert_eq!(with_short.lines().count(), with_all.lines().count());
    assert!(report.contains("engine: io_uring"), "{report}");
    let (with_none, report) = with_short_mappings("0");
    assert!(
        with_none.lines().count() <= with_all.lines().count(),
        "{with_none}"
    );
    assert!(!report.contains("engine: io_uring"), "{report}");
}
