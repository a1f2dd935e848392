//! No read escapes the shim to block its OS thread: the kernel's own account, by strace.

use testprogs::{Flavor, Launcher, Outcome, Run, Scratch, Tool, program};

const FIBERS: usize = 32;
const READS: usize = 100;

struct Traced {
    output: Outcome,
    /// pread64 of the size the fibers read.
    preads: usize,
    enters: usize,
}

/// Runs the reads under strace, built to call the names that escape most easily.
fn traced(strace: &Tool, preload: bool) -> Traced {
    let dir = Scratch::new();
    let (file, log) = (dir.file("file", vec![9; 4 << 20]), dir.join("log"));
    let launcher = Launcher::new(strace.path())
        .arg("-f")
        .arg("-e")
        .arg("trace=pread64,io_uring_enter")
        .arg("-o");
    let output = Run::new(program("randread", Flavor::Fortify))
        .args(["--direct", "-b4096", "-w1"])
        .args([format!("-n{FIBERS}"), format!("-r{READS}")])
        .arg(file)
        .preload(preload)
        .under(launcher.arg(&log))
        .run()
        .success();
    let log = std::fs::read_to_string(log).expect("what strace wrote");
    let count = |what: &dyn Fn(&str) -> bool| log.lines().filter(|line| what(line)).count();
    Traced {
        output,
        // Another thread's line may cut a call in two: the count of a read is in one of them, its name in both.
        preads: count(&|line| line.contains("pread64") && line.contains(", 4096, ")),
        enters: count(&|line| line.contains("io_uring_enter(")),
    }
}

#[test]
fn no_read_escapes_and_submissions_are_batched() {
    let Some(strace) = Tool::strace() else { return };
    let plain = traced(&strace, false);
    assert_eq!(
        (plain.preads, plain.enters),
        (FIBERS * READS, 0),
        "{}",
        plain.output.report()
    );
    let preloaded = traced(&strace, true);
    assert_eq!(preloaded.output.text(), plain.output.text());
    assert_eq!(preloaded.preads, 0, "{}", preloaded.output.report());
    assert!(
        (1..400).contains(&preloaded.enters),
        "{} io_uring_enter",
        preloaded.enters
    );
}
