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
    let run = Run::new(program(name, flavor)).args(args).dir(dir.path());
    match engine {
        Some(engine) => run.preload(true).env("AIOSHIM_ENGINE", engine).run(),
        None => run.run(),
    }
}

#[track_caller]
fn same(name: &str, workers: &[u32]) {
    let expected = probe(name, Flavor::Plain, &["--threads".to_owned()], None);
    if expected.status.code() == Some(77) {
        testprogs::skip(&format!("{name}: {}", expected.error_text()));
        return;
    }
    let crashed = matches!(expected.status.signal(), Some(4 | 6 | 7 | 11));
    let failed = crashed || expected.status.code() == Some(1);
    assert!(
        !failed,
        "the plain run itself failed\n{}",
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
    ($($family:ident { $($name:ident, $workers:expr;)* })*) => {$(
        mod $family {$(
            #[test]
            fn $name() {
                super::same(concat!(stringify!($family), "/", stringify!($name)), &$workers);
            }
        )*}
    )*};
}

// Each probe with its numbers of workers. With one worker it is certain which task is in its call
// when another one runs, which thread a signal interrupts, and that no task runs in parallel.
probes! {
    file {
        transfer_limits, [1, 3];
        transfer_errors, [1, 3];
        position, [1, 3];
        direct, [1, 3];
        devices, [1, 3];
        reused_number, [1, 3];
        open_flags, [1, 3];
        shared_position, [1, 3];
        mixed_position, [1, 3];
        cold_tail, [1, 3];
        many_hits, [1, 3];
        append, [1, 3];
        huge_counts, [1, 3];
        proc_maps, [1, 3];
        size_limit, [1, 3];
        no_wait, [1, 3];
        disk_full, [1, 3];
        paths, [1, 3];
        old_stat, [1, 3];
        directories, [1, 3];
        allocate, [1, 3];
        file_locks, [1, 3];
        close_during_read, [1];
        close_by_task, [1];
        replaced_descriptor, [1];
        close_by_thread, [1];
        close_all, [1, 3];
        close_range, [1];
    }
    pipe {
        pipes, [1, 3];
        sigpipe, [1, 3];
        fifo, [1, 3];
        thundering_herd, [1, 3];
        open_fifo, [1, 3];
        splice, [1, 3];
    }
    socket {
        resolver, [1, 3];
        name_server, [1, 3];
        send_receive, [1, 3];
        timeouts, [1, 3];
        accept, [1, 3];
        refused, [1];
        both_directions, [1];
        listener_in_child, [1];
        messages, [1, 3];
        splice_full, [1, 3];
        shutdown, [1];
        linger, [1];
        waits_again, [1, 3];
        close_after_wait, [1, 3];
        sender_address, [1, 3];
    }
    poll {
        poll, [1];
        spurious_wakeups, [1, 3];
        many_waits, [1, 3];
        lowered_limit, [1, 3];
        changed_array, [1, 3];
    }
    process {
        fork, [1, 3];
        fork_from_threads, [3];
        fork_in_handler, [1];
        vfork, [1, 3];
        clone, [1, 3];
        exec, [1, 3];
        mount_namespace, [1];
        exit, [1, 3];
        wait, [1, 3];
        pclose, [1, 3];
    }
    signal {
        timer, [1, 3];
        handlers, [1, 3];
        interrupted_read, [1];
        event_first, [1, 3];
        many_signals, [1];
        sigwait, [1];
        last_signals, [1];
        masks, [1, 3];
        restart, [1];
        pause, [1];
        jump_out, [1];
    }
    sync {
        lock_results, [1, 3];
        locks, [1, 3];
        shared_locks, [1, 3];
        idle_locks, [1];
        free_locks, [1];
        message_queues, [1, 3];
        futex2, [1, 3];
        requeue, [1];
        cancelled_waits, [1, 3];
    }
    time {
        clock_namespace, [1, 3];
        sleep, [1];
    }
    stdio {
        streams, [1, 3];
        lines, [1, 3];
        many_streams, [1, 3];
        stream_queue, [1, 3];
        parked, [1, 3];
        reused_descriptor, [1];
    }
    task {
        errno, [1, 3];
        no_yield, [1];
        with_thread, [1, 3];
    }
    every {
        cancel, [1, 3];
        bad_pointers, [1];
    }
}

/// More fibers are in flight than a ring has entries, and more than can be polled for at a time.
#[test]
fn crowd() {
    let args = ["--threads".to_owned(), "-n20".to_owned()];
    let expected = probe("task/crowd", Flavor::Plain, &args, None)
        .success()
        .text();
    for engine in ENGINES {
        for workers in [1, 3] {
            let tasks = if workers == 1 { 100_000 } else { 4000 };
            let args = [format!("-w{workers}"), format!("-n{tasks}")];
            let outcome = probe("task/crowd", Flavor::Lfs64, &args, Some(engine)).success();
            assert_eq!(outcome.text(), expected, "{engine}");
        }
    }
}
