//! No read escapes the shim and blocks its OS thread. strace shows what the kernel saw.

use std::path::Path;

use serde_json::Value;
use testprogs::{Flavor, Launcher, Outcome, Run, Scratch, Tool, program};

const FIBERS: usize = 32;
const READS: usize = 100;

struct Traced {
    output: Outcome,
    /// pread64 calls with the size that the fibers read.
    preads: usize,
    enters: usize,
    /// Reads that the shim counted as passed through because no other fiber could run.
    alone: usize,
}

/// Runs the reads under strace, compiled to use the names that escape most easily.
fn traced(strace: &Tool, preload: bool, how: &[&str]) -> Traced {
    let dir = Scratch::new();
    let (file, log) = (dir.file("file", vec![9; 4 << 20]), dir.join("log"));
    let said = dir.join("said");
    let launcher = Launcher::new(strace.path())
        .arg("-f")
        .arg("-e")
        .arg("trace=pread64,io_uring_enter")
        .arg("-o");
    let output = Run::new(program("apps/randread", Flavor::Fortify))
        .args(["-b4096", "-w1"])
        .args(how)
        .args([format!("-n{FIBERS}"), format!("-r{READS}")])
        .arg(file)
        .preload(preload)
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", &said)
        .under(launcher.arg(&log))
        .run()
        .success();
    let log = std::fs::read_to_string(log).expect("what strace wrote");
    let count = |what: &dyn Fn(&str) -> bool| log.lines().filter(|line| what(line)).count();
    Traced {
        output,
        // A line from another thread may split a call into two lines. The size of a read is in only
        // one of them, its name in both.
        preads: count(&|line| line.contains("pread64") && line.contains(", 4096, ")),
        enters: count(&|line| line.contains("io_uring_enter(")),
        alone: if preload { alone(&said) } else { 0 },
    }
}

/// How many pread64 calls passed through because no other fiber could run, by the statistics in
/// `said`.
fn alone(said: &Path) -> usize {
    let said = std::fs::read_to_string(said).expect("statistics");
    let stats: Value = serde_json::from_str(said.trim()).expect("statistics in JSON");
    let calls = stats["calls"].as_object().expect("a table of calls");
    let reads = calls.iter().filter(|(name, _)| name.contains("pread"));
    reads
        .filter_map(|(_, of)| of["through"]["alone"].as_u64())
        .sum::<u64>() as usize
}

fn reads_of(how: &[&str]) -> Option<Traced> {
    let strace = Tool::strace()?;
    let plain = traced(&strace, false, how);
    let calls = (plain.preads, plain.enters);
    assert_eq!(calls, (FIBERS * READS, 0), "{}", plain.output.report());
    let preloaded = traced(&strace, true, how);
    assert_eq!(preloaded.output.text(), plain.output.text());
    // The fiber that ends last delays no other and may make its reads itself. The statistics count
    // these reads; any other read in the log has escaped.
    assert_eq!(
        preloaded.preads,
        preloaded.alone,
        "{}",
        preloaded.output.report()
    );
    assert!(preloaded.alone < READS, "{}", preloaded.output.report());
    Some(preloaded)
}

#[test]
fn no_direct_read_escapes() {
    // The disk decides how many reads complete together; at worst each needs its own system call.
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
    // Cached reads complete during submission, so no disk decides how many are submitted together.
    if let Some(preloaded) = reads_of(&[]) {
        assert!(
            (1..400).contains(&preloaded.enters),
            "{} io_uring_enter",
            preloaded.enters
        );
    }
}

/// The shim asks the kernel whether two descriptors share a position. With 64 fibers that each use
/// their own descriptor, it must not ask for every pair.
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
    let output = Run::new(program("file/many_opens", Flavor::Plain))
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
    // A search among 64 takes seven comparisons; comparing with all others would take 37 on
    // average.
    assert!(
        comparisons <= TURNS * 8,
        "{comparisons} comparisons\n{}",
        output.success().report()
    );
}

/// A new file is a regular file, so the first write to it need not find that out.
#[test]
fn a_new_file_that_is_written_once_is_not_examined() {
    const FILES: usize = 64;
    let Some(strace) = Tool::strace() else { return };
    let (dir, out) = (Scratch::new(), Scratch::new());
    std::fs::create_dir(dir.join("from")).expect("a directory");
    for n in 0..FILES {
        dir.file(&format!("from/{n}"), vec![7; 3000]);
    }
    let log = out.join("log");
    let launcher = Launcher::new(strace.path())
        .arg("-f")
        .arg("-e")
        .arg("trace=fstat,newfstatat")
        .arg("-o");
    let output = Run::new(program("apps/copytree", Flavor::Plain))
        .arg("from")
        .arg("to")
        .dir(dir.path())
        .preload(true)
        .under(launcher.arg(&log))
        .run()
        .success();
    let log = std::fs::read_to_string(log).expect("what strace wrote");
    // The program asks for the mode of each file that it reads.
    let of_descriptors = log
        .lines()
        .filter(|line| line.contains("fstat(") || line.contains(", \"\", "))
        .count();
    assert!(
        of_descriptors < FILES * 3 / 2,
        "{of_descriptors} look-ups of {FILES} files\n{}",
        output.report()
    );
}
