//! No call that can block a thread blocks a fiber's thread. For each symbol of the call table that
//! can wait, 50 fibers of one worker call it at the same time, and all of them must reach the call
//! before the first one may complete.

use calltable::{NAMES, ROWS, Route, Row};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use testprogs::{Flavor, Outcome, Run, Scratch, program};

/// A call that blocks its OS thread makes the test hang; nothing else takes long.
const HANG: Duration = Duration::from_secs(60);

/// The program's exit status for a function that it cannot call here. Since 2.34, for example,
/// glibc no longer offers some old functions to newly linked programs.
const NOT_HERE: i32 = 77;

fn run(args: &[&str], flavor: Flavor, engine: Option<&str>) -> Outcome {
    let dir = Scratch::new();
    let run = Run::new(program("blocking/blocking", flavor))
        .args(args.iter().copied())
        .dir(dir.path())
        .hang_limit(HANG);
    match engine {
        Some(engine) => run.preload(true).env("AIOSHIM_ENGINE", engine).run(),
        None => run.run(),
    }
}

/// The symbols for which the program has a case.
fn cases() -> Vec<String> {
    let list = run(&["--list"], Flavor::Plain, None).success().text();
    list.lines().map(str::to_owned).collect()
}

/// Runs `one` for each of `symbols`, several at a time, and fails with the reports of the ones that
/// went wrong.
fn each(symbols: &[String], one: impl Fn(&str) -> Outcome + Sync) {
    let left = Mutex::new(symbols.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(symbol) = left.lock().unwrap().next() else {
                        return;
                    };
                    let outcome = one(symbol);
                    if outcome.status.code() == Some(NOT_HERE)
                        && outcome.error_text().contains("seccomp")
                    {
                        testprogs::skip(&outcome.error_text());
                    } else if !matches!(outcome.status.code(), Some(0 | NOT_HERE)) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{symbol}: {}", outcome.report()));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        symbols.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_row_that_can_wait_has_a_case() {
    let cases: BTreeSet<String> = cases().into_iter().collect();
    let has_case = |row: &Row| row.names.iter().all(|name| cases.contains(*name));
    // All adaptive calls of one kind run through the same code.
    let waits = |row: &Row| {
        !row.passes
            && !matches!(
                row.route,
                Route::Everywhere(_) | Route::Copied | Route::CopiedBy | Route::Adaptive(_)
            )
    };
    let missing: Vec<_> = ROWS
        .iter()
        .filter(|row| waits(row) && !has_case(row) && row.without_case.is_none())
        .map(|row| row.names)
        .collect();
    assert!(missing.is_empty(), "blocking.c has no case for {missing:?}");
    let idle: Vec<_> = ROWS
        .iter()
        .filter(|row| row.without_case.is_some() && (has_case(row) || !waits(row)))
        .map(|row| row.names)
        .collect();
    assert!(
        idle.is_empty(),
        "these rows need no reason to have no case: {idle:?}"
    );
    let kinds = |with: bool| -> BTreeSet<&str> {
        let names = NAMES.iter();
        let of = names.filter(|name| !with || cases.contains(name.name));
        of.filter_map(|name| match name.row.route {
            Route::Adaptive(kind) => Some(kind),
            _ => None,
        })
        .collect()
    };
    assert_eq!(
        kinds(true),
        kinds(false),
        "each kind of adaptive calls has a case"
    );
}

#[test]
fn each_call_blocks_as_a_plain_one() {
    each(&cases(), |symbol| {
        run(&["--threads", symbol], Flavor::Plain, None)
    });
}

#[test]
fn by_name_they_keep_nobody_on_io_uring() {
    each(&cases(), |symbol| {
        run(&[symbol], Flavor::Plain, Some("uring"))
    });
}

#[test]
fn by_name_they_keep_nobody_on_linux_aio() {
    each(&cases(), |symbol| {
        run(&[symbol], Flavor::Plain, Some("aio"))
    });
}

#[test]
fn by_name_they_keep_nobody_on_threads() {
    each(&cases(), |symbol| {
        run(&[symbol], Flavor::Plain, Some("threads"))
    });
}

/// The names that the compiler's options select.
#[test]
fn as_compiled_they_keep_nobody() {
    let symbols: Vec<String> = cases()
        .into_iter()
        .filter(|name| !name.starts_with("__"))
        .collect();
    for flavor in [Flavor::Lfs64, Flavor::Fortify] {
        each(&symbols, |symbol| {
            run(&["--direct", symbol], flavor, Some("uring"))
        });
    }
}
