//! If the kernel begins to refuse system calls during a run, no fiber is lost: another engine takes
//! over.

use testprogs::{Flavor, Outcome, Run, Scratch, program};

fn filtered(name: &str, engine: &str, args: &[&str]) -> Outcome {
    let dir = Scratch::new();
    Run::new(program(name, Flavor::Plain))
        .args(args)
        .dir(dir.path())
        .preload(true)
        .env("AIOSHIM_ENGINE", engine)
        .run()
}

/// The outcome of a successful run; skips and returns None if filters cannot be installed here.
#[track_caller]
fn succeeds(outcome: Outcome) -> Option<Outcome> {
    if outcome.status.code() == Some(77) {
        testprogs::skip(&outcome.error_text());
        return None;
    }
    Some(outcome.success())
}

#[test]
fn an_engine_that_the_kernel_begins_to_refuse_is_replaced() {
    for (engine, call) in [
        ("auto", "enter"),
        ("auto", "uring"),
        ("aio", "submit"),
        ("aio", "getevents"),
        ("aio", "epoll"),
        ("threads", "epoll"),
    ] {
        for error in ["EPERM", "ENOMEM", "EBADF", "EAGAIN"] {
            for workers in ["-w1", "-w3"] {
                let outcome =
                    filtered("environment/unseen_filter", engine, &[workers, call, error]);
                let Some(outcome) = succeeds(outcome) else {
                    return;
                };
                // A worker that starts after the filter cannot get the requested engine, and
                // reports that.
                if engine == "auto" {
                    assert_eq!(outcome.error_text(), "", "silent: {}", outcome.report());
                }
            }
        }
    }
}

#[test]
fn a_filter_that_is_seen_has_the_next_engine_take_over_before_it_kills() {
    for (engine, call, action, then) in [
        ("auto", "uring", "KILL", "io_uring, then linux-aio"),
        ("auto", "uring", "EPERM", "io_uring, then linux-aio"),
        ("aio", "submit", "KILL", "linux-aio, then threads"),
    ] {
        let dir = Scratch::new();
        let report = dir.join("report");
        let outcome = Run::new(program("environment/unseen_filter", Flavor::Plain))
            .args(["-w1", call, action, "seen"])
            .dir(dir.path())
            .preload(true)
            .env("AIOSHIM_ENGINE", engine)
            .env("AIOSHIM_STATS", "1")
            .env("AIOSHIM_OUT", &report)
            .run();
        let Some(outcome) = succeeds(outcome) else {
            return;
        };
        let report = std::fs::read_to_string(report).expect("the report");
        assert!(
            report.contains(then),
            "{then}: {}\n{report}",
            outcome.report()
        );
    }
}
