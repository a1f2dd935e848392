//! No call that can block a thread blocks a fiber's thread: each symbol of the hook table that can wait, called by 50
//! fibers of one worker at once, all of which come to the call before the first is let go.

use std::sync::Mutex;
use std::time::Duration;
use testprogs::{Flavor, Outcome, Run, Scratch, program};

/// A call that keeps its OS thread hangs; nothing else takes long.
const HANG: Duration = Duration::from_secs(60);

/// What no libc since 2.34 lets a program call any more.
const NOT_HERE: i32 = 77;

fn run(args: &[&str], flavor: Flavor, engine: Option<&str>) -> Outcome {
    let dir = Scratch::new();
    let run = Run::new(program("blocking", flavor))
        .args(args.iter().copied())
        .dir(dir.path())
        .hang_limit(HANG);
    match engine {
        Some(engine) => run.preload(true).env("AIOSHIM_ENGINE", engine).run(),
        None => run.run(),
    }
}

/// The symbols that the program has a case for.
fn cases() -> Vec<String> {
    let list = run(&["--list"], Flavor::Plain, None).success().text();
    list.lines().map(str::to_owned).collect()
}

/// Runs `one` for each of `symbols`, some at a time; what it says of those that went wrong.
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
                    if outcome.status.code() == Some(NOT_HERE) && outcome.error_text().contains("seccomp") {
                        testprogs::skip(&outcome.error_text());
                    } else if !matches!(outcome.status.code(), Some(0 | NOT_HERE)) {
                        wrong.lock().unwrap().push(format!("{symbol}: {}", outcome.report()));
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
fn each_call_blocks_as_a_plain_one() {
    each(&cases(), |symbol| run(&["--threads", symbol], Flavor::Plain, None));
}

#[test]
fn by_name_they_keep_nobody_on_io_uring() {
    each(&cases(), |symbol| run(&[symbol], Flavor::Plain, Some("uring")));
}

#[test]
fn by_name_they_keep_nobody_on_linux_aio() {
    each(&cases(), |symbol| run(&[symbol], Flavor::Plain, Some("aio")));
}

#[test]
fn by_name_they_keep_nobody_on_threads() {
    each(&cases(), |symbol| run(&[symbol], Flavor::Plain, Some("threads")));
}

/// As the compiler's options rename them.
#[test]
fn as_compiled_they_keep_nobody() {
    let symbols: Vec<String> = cases().into_iter().filter(|name| !name.starts_with("__")).collect();
    for flavor in [Flavor::Lfs64, Flavor::Fortify] {
        each(&symbols, |symbol| run(&["--direct", symbol], flavor, Some("uring")));
    }
}
