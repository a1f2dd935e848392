//! Calls on file names, directories and file locks. None escapes under any of its names, and none
//! waits for another.

use testprogs::{Flavor, Run, Scratch, Stats, program};

/// The output and the statistics of a preloaded probe.
fn watched(probe: &str, variables: &[(&str, &str)]) -> (String, Stats) {
    let (dir, out) = (Scratch::new(), Scratch::new());
    let stats = out.join("stats");
    let run = Run::new(program(probe, Flavor::Plain))
        .dir(dir.path())
        .preload(true)
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", &stats);
    let run = variables
        .iter()
        .fold(run, |run, (name, value)| run.env(*name, *value));
    let text = run.output();
    (text, Stats::read(&stats).expect("statistics"))
}

fn plain(probe: &str) -> String {
    let dir = Scratch::new();
    Run::new(program(probe, Flavor::Plain))
        .arg("--threads")
        .dir(dir.path())
        .output()
}

#[test]
fn every_name_is_seen() {
    let (text, stats) = watched("file/path_aliases", &[]);
    assert_eq!(text, plain("file/path_aliases"));
    let called: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(": called"))
        .collect();
    assert!(called.len() > 150, "{text}");
    let escaped: Vec<&&str> = called
        .iter()
        .filter(|name| stats.call(name).total() == 0)
        .collect();
    assert!(escaped.is_empty(), "not seen by the shim: {escaped:?}");
}

/// The first calls are inline, until the probe slows calls down. How many are inline depends on the
/// speed of the machine.
#[test]
fn quick_calls_are_inline_and_slow_ones_are_handed_over() {
    let (_, stats) = watched("file/paths", &[]);
    for name in [
        "stat", "fstat", "access", "readlink", "statx", "unlink", "rename", "mkdir", "chmod",
        "mkstemp",
    ] {
        assert!(
            stats.call(name).offloaded > 0,
            "{name}: {:?}",
            stats.call(name)
        );
    }
    assert!(stats.call("stat").inline > 0, "{:?}", stats.call("stat"));
}

/// Waits for locks do not use the `AIOSHIM_THREADS` of file operations, so few threads suffice.
#[test]
fn two_hundred_wait_for_a_lock_whatever_the_number_of_threads() {
    let expected = plain("file/file_locks");
    for threads in ["2", "4"] {
        for engine in ["uring", "threads"] {
            let (text, _) = watched(
                "file/file_locks",
                &[("AIOSHIM_THREADS", threads), ("AIOSHIM_ENGINE", engine)],
            );
            assert_eq!(text, expected, "{engine} with {threads} threads");
        }
    }
}
