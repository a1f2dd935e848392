//! Locks that the probes do not cover: the C++ library, preloaded allocators that lock inside
//! malloc, locks in signal handlers.

use std::os::unix::process::ExitStatusExt;

use testprogs::{Flavor, Outcome, Run, Scratch, cxx_program, program};

/// std::mutex and its variants, condition_variable, shared_mutex, waiting on atomics; call_once,
/// whose exceptions pass through the hook and whose callable is in thread-local variables; and a
/// thread that is cancelled in a wait.
#[test]
fn cxx_locks_on_fibers_and_threads() {
    let dir = Scratch::new();
    let Some(program) = cxx_program("sync/cxx_locks", &[], dir.path()) else {
        return;
    };
    let expected = Run::new(&program).output();
    assert!(expected.contains("cancelled: 1"), "{expected}");
    assert_eq!(
        Run::new(&program).preload(true).output(),
        expected,
        "threads"
    );
    for engine in ["uring", "aio", "threads", "sync"] {
        for workers in ["1", "3"] {
            let run = Run::new(&program).arg(workers).preload(true);
            assert_eq!(
                run.env("AIOSHIM_ENGINE", engine).output(),
                expected,
                "{engine}, {workers}"
            );
        }
    }
}

/// How a program that runs on `workers` ends whose fibers wait for locks.
fn waits_for_locks(mode: &str, workers: &str, engine: &str) -> Outcome {
    Run::new(program("sync/deadlocks", Flavor::Plain))
        .arg(workers)
        .arg(mode)
        .preload(true)
        .env("AIOSHIM_ENGINE", engine)
        .run()
}

#[test]
fn fibers_that_wait_for_each_others_mutex_are_reported() {
    for engine in ["uring", "aio", "threads", "sync"] {
        for workers in ["1", "3"] {
            let outcome = waits_for_locks("mutexes", workers, engine);
            let text = outcome.error_text();
            let report = outcome.report();
            assert_eq!(outcome.status.signal(), Some(6), "{report}");
            assert!(
                text.starts_with("fiber: deadlock: 4 fibers wait, "),
                "{report}"
            );
            let in_lock = text.matches("waits in pthread_mutex_lock").count();
            assert!(in_lock > 0 || workers != "1", "{report}");
        }
    }
}

/// The wait ends by a plain thread, another process, a signal handler or its time limit.
#[test]
fn a_lock_that_something_else_releases_is_no_deadlock() {
    for mode in ["thread", "process", "handler", "timeout"] {
        for engine in ["uring", "aio", "threads", "sync"] {
            for workers in ["1", "3"] {
                let outcome = waits_for_locks(mode, workers, engine);
                assert_eq!(outcome.text(), "done\n", "{mode}: {}", outcome.report());
            }
        }
    }
}
