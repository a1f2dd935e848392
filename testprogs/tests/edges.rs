//! In the edge cases of each call, a C program sees the same on a fiber with the preload as in a
//! plain program.
//!
//! A probe prints every result, error and byte it sees. The expected output is that of the same
//! probe on the main thread with nothing preloaded.

use std::os::unix::process::ExitStatusExt;
use testprogs::{Flavor, Outcome, Run, Scratch, program};

/// The names of the engines.
const ENGINES: [&str; 3] = ["uring", "aio", "threads"];

/// One run of a probe in an empty directory: plain, or preloaded with an engine.
fn probe(name: &str, flavor: Flavor, args: &[String], engine: Option<&str>) -> Outcome {
    let dir = Scratch::new();
    let run = Run::new(program(&format!("probe/{name}"), flavor))
        .args(args)
        .dir(dir.path());
    match engine {
        Some(engine) => run.preload(true).env("AIOSHIM_ENGINE", engine).run(),
        None => run.run(),
    }
}

#[track_caller]
fn same(name: &str, workers: &[u32]) {
    let expected = probe(name, Flavor::Plain, &["--threads".to_owned()], None);
    if expected.status.code() == Some(77) {
        testprogs::skip(&format!("probe/{name}: {}", expected.error_text()));
        return;
    }
    let crashed = matches!(expected.status.signal(), Some(4 | 6 | 7 | 11));
    assert!(
        !crashed,
        "the plain run itself crashed\n{}",
        expected.report()
    );
    // The probe's messages about cases that it could not try.
    eprint!("{}", expected.error_text());
    for (flavor, engine) in [
        (Flavor::Plain, "uring"),
        (Flavor::Fortify, "uring"),
        (Flavor::Plain, "aio"),
        (Flavor::Fortify, "threads"),
    ] {
        for workers in workers {
            let outcome = probe(name, flavor, &[format!("-w{workers}")], Some(engine));
            let same = outcome.stdout == expected.stdout && outcome.status == expected.status;
            assert!(
                same,
                "{engine}: {}\n{}",
                difference(&expected.text(), &outcome.text()),
                outcome.report()
            );
        }
    }
}

/// The first line that differs.
fn difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    for n in 1.. {
        match (expected.next(), found.next()) {
            (None, None) => break,
            (e, f) if e == f => {}
            (e, f) => {
                let [e, f] = [e, f].map(|line| line.unwrap_or("(nothing)"));
                return format!("line {n}\n  plain:     {e}\n  preloaded: {f}");
            }
        }
    }
    "the same output, but a different exit status".to_owned()
}

macro_rules! probes {
    ($($name:ident, $workers:expr;)*) => {$(
        #[test]
        fn $name() {
            same(stringify!($name), &$workers);
        }
    )*};
}

probes! {
    ends, [1, 3];
    errors, [1, 3];
    position, [1, 3];
    direct, [1, 3];
    devices, [1, 3];
    stale, [1, 3];
    errnos, [1, 3];
    openflags, [1, 3];
    pipes, [1, 3];
    sigpipe, [1, 3];
    fifo, [1, 3];
    herd, [1, 3];
    lockerrors, [1, 3];
    locks, [1, 3];
    sharedlocks, [1, 3];
    idlelocks, [1];
    // With several workers, others run in parallel instead of in between.
    freelocks, [1];
    hog, [1];
    atomic, [1, 3];
    mixed, [1, 3];
    appends, [1, 3];
    hugecounts, [1, 3];
    procmaps, [1, 3];
    forking, [1, 3];
    cancelling, [1, 3];
    signals, [1, 3];
    rlimit, [1, 3];
    handlers, [1, 3];
    forkamid, [3];
    vforking, [1, 3];
    cloning, [1, 3];
    execing, [1, 3];
    nowait, [1, 3];
    openers, [1, 3];
    full, [1, 3];
    names, [1, 3];
    paths, [1, 3];
    queues, [1, 3];
    sockets, [1, 3];
    socktime, [1, 3];
    accepting, [1, 3];
    // Only with one worker is the waiter certainly in its call once another task runs.
    refused, [1];
    bothways, [1];
    leftopen, [1];
    poolstate, [1];
    messages, [1, 3];
    streams, [1, 3];
    exiting, [1, 3];
    oldstat, [1, 3];
    dirs, [1, 3];
    space, [1, 3];
    filelocks, [1, 3];
    splices, [1, 3];
    roomy, [1, 3];
    // Only with one worker is it known which task is in read, and which thread a signal interrupts.
    closing, [1];
    closedunder, [1];
    replacedunder, [1];
    closedelsewhere, [1];
    sockclose, [1];
    lingering, [1];
    polling, [1];
    polldrop, [1, 3];
    eofafter, [1, 3];
    manywait, [1, 3];
    senders, [1, 3];
    lowered, [1, 3];
    interrupted, [1];
    eventfirst, [1, 3];
    together, [1];
    sigwaits, [1];
    otherclock, [1, 3];
    badpointers, [1];
    lastsignal, [1];
    masks, [1, 3];
    sleeps, [1];
    restarts, [1];
    waiting, [1];
    children, [1, 3];
    reaper, [1, 3];
    closeall, [1, 3];
    lines, [1, 3];
    manystreams, [1, 3];
    streamturn, [1, 3];
    parked, [1, 3];
    // Only with one worker do the two tasks run in the same round.
    reuse, [1];
}

/// More fibers are in flight than a ring has entries, and more than can be polled for at a time.
#[test]
fn crowd() {
    let args = ["--threads".to_owned(), "-n20".to_owned()];
    let expected = probe("crowd", Flavor::Plain, &args, None).success().text();
    for engine in ENGINES {
        for workers in [1, 3] {
            let tasks = if workers == 1 { 100_000 } else { 4000 };
            let args = [format!("-w{workers}"), format!("-n{tasks}")];
            let outcome = probe("crowd", Flavor::Lfs64, &args, Some(engine)).success();
            assert_eq!(outcome.text(), expected, "{engine}");
        }
    }
}
