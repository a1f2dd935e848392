//! Off a fiber a hook costs almost nothing. The test counts instructions, which noise does not
//! affect.

use std::time::Duration;

use testprogs::{Flavor, Run, Scratch, Tool, program};

const TIMES: u64 = 100_000;

/// Instructions a hook may add to a call.
const LIMIT: f64 = 15.0;

/// The number of instructions of a complete run that makes `times` calls.
fn instructions(valgrind: &Tool, call: &str, times: u64, preload: bool) -> u64 {
    let scratch = Scratch::new();
    let outcome = Run::new(valgrind.path())
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program("bench/calls", Flavor::Plain))
        .args([call, &times.to_string()])
        .arg(scratch.path())
        .preload(preload)
        .hang_limit(Duration::from_secs(300))
        .run()
        .success();
    let text = outcome.error_text();
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) =
        collected.unwrap_or_else(|| panic!("callgrind says no total: {}", outcome.report()));
    number.trim().parse().expect("a number of instructions")
}

/// Instructions per call; the start and the end of the process cancel out.
fn each(valgrind: &Tool, call: &str, preload: bool) -> f64 {
    let [none, all] = [0, TIMES].map(|times| instructions(valgrind, call, times, preload));
    all.saturating_sub(none) as f64 / TIMES as f64
}

/// `calls` is the number of libc calls in one iteration.
fn costs_little(call: &str, calls: f64) {
    let Some(valgrind) = Tool::find("valgrind") else {
        return;
    };
    let (plain, preloaded) = (each(&valgrind, call, false), each(&valgrind, call, true));
    println!("{call}: {plain:.2} instructions plain, {preloaded:.2} preloaded");
    assert!(
        plain > 5.0 * calls,
        "{call}: {plain} instructions cannot be"
    );
    assert!(
        preloaded - plain > 0.5,
        "{call}: {plain} plain, {preloaded} preloaded: no hook was there"
    );
    assert!(
        preloaded - plain <= LIMIT * calls,
        "{call}: {plain} instructions plain, {preloaded} preloaded"
    );
}

#[test]
fn read() {
    costs_little("read", 1.0);
}

#[test]
fn write() {
    costs_little("write", 1.0);
}

#[test]
fn pread() {
    costs_little("pread", 1.0);
}

#[test]
fn open_and_close() {
    costs_little("open+close", 2.0);
}

#[test]
fn lseek() {
    costs_little("lseek", 1.0);
}
