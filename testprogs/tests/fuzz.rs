//! Random programs with many tasks keep their invariants on fibers with the preload, and on
//! pthreads.
//!
//! `c/fuzz/fuzz.c` generates a program from each seed that uses files, pipes, sockets, dup, close,
//! fork, signals, cancellation and timeouts concurrently. `AIOSHIM_TEST_CASES` sets how many cases
//! run on each engine and number of workers, `AIOSHIM_TEST_SEED` the first seed. The long run takes
//! about an hour on two processors:
//!
//!     AIOSHIM_TEST_CASES=20000 cargo test -p testprogs --test fuzz -- --test-threads 1
//!
//! A case that fails prints the command that repeats it.

use std::thread::available_parallelism;
use std::time::Duration;

use testprogs::{Flavor, Run, Scratch, number, program};

const CASES: u64 = 300;
const SEED: u64 = 1;

/// Runs all cases with `args`, as many at a time as there are processors; preloaded if `engine`
/// names one.
#[track_caller]
fn cases(args: &[&str], engine: Option<&str>) {
    let (seed, cases) = (
        number("AIOSHIM_TEST_SEED", SEED),
        number("AIOSHIM_TEST_CASES", CASES),
    );
    let jobs = available_parallelism().map_or(1, |n| n.get());
    let dir = Scratch::new();
    let mut run = Run::new(program("fuzz/fuzz", Flavor::Fortify))
        .args(args.iter().copied())
        .args([
            format!("--seed={seed}"),
            format!("--count={cases}"),
            format!("--jobs={jobs}"),
        ])
        .dir(dir.path())
        // Each case has its own watchdog of 30 seconds.
        .hang_limit(Duration::from_secs(60 + cases));
    if let Some(engine) = engine {
        run = run.preload(true).env("AIOSHIM_ENGINE", engine);
    }
    let outcome = run.run().success();
    assert_eq!(
        outcome.text(),
        format!("{cases} cases, 0 failed\n"),
        "{}",
        outcome.report()
    );
}

fn on_fibers(engine: &str) {
    for workers in ["-w1", "-w3"] {
        cases(&[workers], Some(engine));
    }
}

/// The invariants must also hold on pthreads; otherwise the program relies on something that the
/// kernel does not guarantee.
#[test]
fn random_programs_on_pthreads() {
    cases(&["--threads"], None);
}

#[test]
fn random_programs_on_uring() {
    on_fibers("uring");
}

#[test]
fn random_programs_on_aio() {
    on_fibers("aio");
}

#[test]
fn random_programs_on_the_pool() {
    on_fibers("threads");
}
