//! `AIOSHIM_ESCAPES` names each blocking system call that no hook sees, and finds none if all calls
//! are converted.

use testprogs::{Flavor, Launcher, Outcome, Refusal, Run, Scratch, program};

use serde_json::Value;

/// Runs a probe in its own directory with `AIOSHIM_ESCAPES`. If the kernel does not support Syscall
/// User Dispatch, skips and returns None.
fn watched(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Option<(Outcome, Value)> {
    let dir = Scratch::new();
    let run = Run::new(program(name, Flavor::Plain))
        .args(args.iter().copied())
        .dir(dir.path())
        .preload(true)
        .env("AIOSHIM_ESCAPES", "1")
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", dir.join("said"));
    let outcome = variables
        .iter()
        .fold(run, |run, (name, value)| run.env(*name, *value))
        .run();
    let said = std::fs::read_to_string(dir.join("said")).expect("statistics");
    if said.contains("the kernel does not dispatch") {
        testprogs::skip(&said);
        return None;
    }
    let stats: Value = serde_json::from_str(said.trim())
        .unwrap_or_else(|e| panic!("{e}: {said}\n{}", outcome.report()));
    Some((outcome, stats["escapes"].clone()))
}

fn plain(name: &str) -> Outcome {
    let dir = Scratch::new();
    let run = Run::new(program(name, Flavor::Plain)).arg("--threads");
    run.dir(dir.path()).run()
}

/// How often `call` was made at call sites whose name contains `at`, and how often it took long.
fn places(escapes: &Value, call: &str, at: &str) -> (u64, u64) {
    let places = escapes["escaped"]["places"].as_array().expect("a list");
    let number = |place: &Value, name: &str| place[name].as_u64().expect("a number");
    places
        .iter()
        .filter(|place| {
            place["call"] == call && place["at"].as_str().is_some_and(|text| text.contains(at))
        })
        .fold((0, 0), |(calls, blocked), place| {
            (
                calls + number(place, "calls"),
                blocked + number(place, "blocked"),
            )
        })
}

#[test]
fn what_escapes_is_named_by_call_and_place() {
    let Some((outcome, escapes)) = watched("unhooked/some_unhooked", &[], &[]) else {
        return;
    };
    assert_eq!(outcome.text(), plain("unhooked/some_unhooked").text());
    assert_eq!(places(&escapes, "read", "some_unhooked").0, 1, "{escapes}");
    assert_eq!(
        places(&escapes, "readv", "libc").0,
        0,
        "syscall(2) is converted: {escapes}"
    );
    // This call sleeps for twice the limit. Nothing is checked for the other calls, because a busy
    // machine may make them slow, too.
    assert_eq!(
        places(&escapes, "nanosleep", "some_unhooked"),
        (1, 1),
        "{escapes}"
    );
    assert!(
        places(&escapes, "read", "libc").0 >= 1,
        "get_nprocs_conf's: {escapes}"
    );
    assert_eq!(
        places(&escapes, "write", "libc").0,
        0,
        "stdio's is converted: {escapes}"
    );
    // The kernel never sleeps for less than the requested time.
    let place = &escapes["escaped"]["places"][0];
    assert!(
        place["blocked"].as_u64() >= Some(1),
        "the longest come first: {escapes}"
    );
}

#[test]
fn nothing_escapes_where_every_call_is_converted() {
    for workers in ["-w1", "-w3"] {
        for engine in ["uring", "aio", "threads"] {
            let Some((outcome, escapes)) = watched(
                "unhooked/all_converted",
                &[workers],
                &[("AIOSHIM_ENGINE", engine)],
            ) else {
                return;
            };
            assert_eq!(outcome.text(), plain("unhooked/all_converted").text());
            assert_eq!(
                escapes["escaped"]["calls"], 0,
                "{engine} {workers}: {escapes}"
            );
            assert!(escapes["threads"].as_u64() >= Some(1), "{escapes}");
        }
    }
}

#[test]
fn a_call_that_the_table_passes_through_is_no_escape() {
    let Some((_, escapes)) = watched(
        "unhooked/all_converted",
        &["-w1"],
        &[("AIOSHIM_ENGINE", "sync")],
    ) else {
        return;
    };
    assert_eq!(escapes["escaped"]["calls"], 0, "{escapes}");
    let passed = escapes["passed"]["places"].as_array().expect("a list");
    let fsync = passed
        .iter()
        .find(|place| place["hook"] == "fsync")
        .expect("it is passed through");
    assert_eq!(
        (&fsync["call"], &fsync["calls"]),
        (&Value::from("fsync"), &Value::from(16 * 20))
    );
}

/// The tracing changes nothing that a program sees: signals and their masks, forks and spawns,
/// jumps, errors.
#[test]
fn a_watched_program_sees_no_difference() {
    for name in [
        "signal/timer",
        "signal/handlers",
        "signal/interrupted_read",
        "process/fork",
        "process/vfork",
        "pipe/pipes",
        "file/close_during_read",
        "file/transfer_limits",
        "file/transfer_errors",
        "pipe/sigpipe",
        "stdio/reused_descriptor",
        "signal/masks",
    ] {
        let expected = plain(name);
        let dir = Scratch::new();
        let run = Run::new(program(name, Flavor::Plain)).arg("-w1");
        let run = run
            .dir(dir.path())
            .preload(true)
            .env("AIOSHIM_ESCAPES", "1");
        let outcome = run.run();
        assert_eq!(
            outcome.text(),
            expected.text(),
            "{name}: {}",
            outcome.report()
        );
        assert_eq!(
            outcome.status,
            expected.status,
            "{name}: {}",
            outcome.report()
        );
    }
}

#[test]
fn a_handler_can_walk_the_stack_below_a_call_that_is_watched() {
    let name = "unhooked/unwound_handler";
    let Some((outcome, _)) = watched(name, &[], &[]) else {
        return;
    };
    let outcome = outcome.success();
    assert_eq!(outcome.text(), plain(name).text());
}

#[test]
fn it_is_off_unless_asked_for() {
    let Some((_, escapes)) = watched("unhooked/all_converted", &[], &[("AIOSHIM_ESCAPES", "0")])
    else {
        return;
    };
    assert_eq!(escapes, Value::Null);
}

/// As on an old kernel, or in a sandbox.
#[test]
fn where_the_kernel_does_not_dispatch_one_line_says_so() {
    // The test needs seccomp filters.
    if Refusal::ALL[0].launcher().is_none() {
        return;
    }
    let refused = Launcher::new(program("environment/refuse", Flavor::Plain)).arg("prctl=EINVAL");
    let dir = Scratch::new();
    let run = Run::new(program("unhooked/all_converted", Flavor::Plain)).arg("-w3");
    let run = run
        .dir(dir.path())
        .preload(true)
        .env("AIOSHIM_ESCAPES", "1");
    let outcome = run
        .env("AIOSHIM_STATS", "json")
        .under(refused)
        .run()
        .success();
    let text = outcome.error_text();
    let (said, stats) = text.split_once('\n').expect("two lines");
    assert!(
        said.starts_with("aioshim: AIOSHIM_ESCAPES: the kernel does not dispatch"),
        "{text}"
    );
    let stats: Value = serde_json::from_str(stats).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(stats["escapes"], Value::Null);
    assert_eq!(outcome.text(), plain("unhooked/all_converted").text());
}
