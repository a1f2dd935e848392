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
fn traced(strace: &Tool, preload: bool, how: &[&str]) -> Traced {
    let dir = Scratch::new();
    let (file, log) = (dir.file("file", vec![9; 4 << 20]), dir.join("log"));
    let launcher = Launcher::new(strace.path())
        .arg("-f")
        .arg("-e")
        .arg("trace=pread64,io_uring_enter")
        .arg("-o");
    let output = Run::new(program("randread", Flavor::Fortify))
        .args(["-b4096", "-w1"])
        .args(how)
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
        // Another thread's line may cut a call in two: the count of a read is in one of them, its
        // name in both.
        preads: count(&|line| line.contains("pread64") && line.contains(", 4096, ")),
        enters: count(&|line| line.contains("io_uring_enter(")),
    }
}

fn reads_of(how: &[&str]) -> Option<Traced> {
    let strace = Tool::strace()?;
    let plain = traced(&strace, false, how);
    let calls = (plain.preads, plain.enters);
    assert_eq!(calls, (FIBERS * READS, 0), "{}", plain.output.report());
    let preloaded = traced(&strace, true, how);
    assert_eq!(preloaded.output.text(), plain.output.text());
    assert_eq!(preloaded.preads, 0, "{}", preloaded.output.report());
    Some(preloaded)
}

#[test]
fn no_direct_read_escapes() {
    // How many complete at once, and so need one call less, is the disk's affair: it may be one.
    if let Some(preloaded) = reads_of(&["--direct"]) {
        assert!(
            (1..=FIBERS * READS + 1).contains(&preloaded.enters),
            "{} io_uring_enter",
            preloaded.enters
        );
    }
}

#[test]
fn a_round_of_the_scheduler_is_one_submission() {
    // What is cached completes as it is submitted: no disk decides how many go together.
    if let Some(preloaded) = reads_of(&[]) {
        assert!(
            (1..400).contains(&preloaded.enters),
            "{} io_uring_enter",
            preloaded.enters
        );
    }
}

/// Whether two descriptors share their position is asked of the kernel. With each of 64 fibers at a
/// descriptor of its own that must not be asked of every pair.
#[test]
fn many_descriptors_of_one_file_are_not_all_compared() {
    const TURNS: usize = 64 * 20 * 2;
    let Some(strace) = Tool::strace() else { return };
    let (dir, out) = (Scratch::new(), Scratch::new());
    let log = out.join("log");
    let launcher = Launcher::new(strace.path())
        .arg("-f")
        .arg("-e")
        .arg("trace=kcmp")
        .arg("-o");
    let output = Run::new(program("probe/manyopens", Flavor::Plain))
        .dir(dir.path())
        .preload(true)
        .under(launcher.arg(&log))
        .run();
    if output.status.code() == Some(77) {
        testprogs::skip(&output.error_text());
        return;
    }
    let log = std::fs::read_to_string(log).expect("what strace wrote");
    let comparisons = log.lines().filter(|line| line.contains("kcmp(")).count();
    // A search among 64 takes seven; all pairs would be 37.
    assert!(
        comparisons <= TURNS * 8,
        "{comparisons} comparisons\n{}",
        output.success().report()
    );
}
