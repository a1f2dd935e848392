//! A wait for a peer never blocks a call that the peer needs in order to continue, however few
//! threads the pool may have.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Stdio;
use testprogs::{Flavor, Run, Scratch, program};

const ENGINES: [&str; 3] = ["uring", "aio", "threads"];

fn run(name: &str) -> (Scratch, Run) {
    let dir = Scratch::new();
    let run = Run::new(program(name, Flavor::Plain)).dir(dir.path());
    (dir, run)
}

fn each_engine(name: &str, threads: &str, mut each: impl FnMut(&str, Run)) {
    for engine in ENGINES {
        for workers in ["-w1", "-w3"] {
            let (_dir, run) = run(name);
            let run = run.arg(workers).preload(true).env("AIOSHIM_ENGINE", engine);
            each(engine, run.env("AIOSHIM_THREADS", threads));
        }
    }
}

/// On every engine, the probe prints `expected`. It may exit with 77, which skips the test.
fn prints(name: &str, expected: &str) {
    for engine in ENGINES {
        let (_dir, run) = run(name);
        let outcome = run.preload(true).env("AIOSHIM_ENGINE", engine).run();
        if outcome.status.code() == Some(77) {
            return testprogs::skip(&outcome.error_text());
        }
        assert_eq!(outcome.success().text(), expected, "{engine}");
    }
}

/// 40 waits at a time, with a pool of one thread for file operations.
#[test]
fn who_waits_for_a_peer_keeps_no_thread_that_the_peer_needs() {
    let (_dir, plain) = run("every/peers");
    let expected = plain.arg("--threads").run().success().text();
    each_engine("every/peers", "1", |engine, run| {
        assert_eq!(run.run().success().text(), expected, "{engine}");
    });
}

/// Readers of a FIFO and of a terminal, writers, and callers of accept queue for the descriptor. A
/// writer that has already written a part returns the number of bytes written.
#[test]
fn who_waits_for_a_turn_at_a_stream_can_be_cancelled_and_interrupted() {
    let expected = "readers of a FIFO: 3 cancelled\nwriters of a FIFO: 2 cancelled\n\
                    readers of a terminal: 3 cancelled\ninterrupted: 2\naccept: 3 \
                    cancelled\naccept, out of time: 2\n";
    prints("every/cancel_queued", expected);
}

/// Nothing polls at intervals. Waits for processes may do so for the first second, so each run
/// starts counting after that.
#[test]
fn a_program_that_only_waits_never_wakes() {
    std::thread::scope(|scope| {
        for engine in ENGINES {
            scope.spawn(move || {
                let (_dir, run) = run("every/idle");
                let text = run
                    .preload(true)
                    .env("AIOSHIM_ENGINE", engine)
                    .run()
                    .success()
                    .text();
                assert_eq!(text, "idle\n", "{engine}");
            });
        }
    });
}

#[test]
fn a_loop_of_accepts_takes_all_connections_that_wait() {
    prints("socket/accept_all", "accepted all\n");
}

/// If the call waited for the next connection instead, it would block all fibers of its thread.
#[test]
fn who_loses_a_connection_to_another_process_goes_on_with_other_fibers() {
    prints("socket/lost_connection", "taken\nanswered\nserved\n");
}

/// The kernel takes tens of milliseconds to destroy an AIO context, at the exit of each child that
/// has created one.
#[test]
fn a_process_that_only_waits_for_streams_makes_no_aio_context() {
    for (engine, expected) in [("uring", 0), ("aio", 1), ("threads", 0)] {
        let (_dir, run) = run("task/aio_contexts");
        let text = run
            .preload(true)
            .env("AIOSHIM_ENGINE", engine)
            .run()
            .success()
            .text();
        let expected =
            format!("after a wait: 0\nin a child: 0\nafter fsync by 3 runs: {expected}\n");
        assert_eq!(text, expected, "{engine}");
    }
}

/// If an engine kept references to a process's files, the kernel would release them only some time
/// after the process was reaped.
#[test]
fn a_killed_server_has_left_its_port() {
    for engine in ENGINES {
        for (waits, is_udp) in [("-n1", false), ("-n2", false)] {
            for _ in 0..5 {
                let (_dir, run) = run("socket/server");
                let run = run.arg(waits).preload(true).env("AIOSHIM_ENGINE", engine);
                let mut server = run
                    .command()
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("the server");
                let mut line = String::new();
                let stdout = server.stdout.take().expect("piped");
                BufReader::new(stdout)
                    .read_line(&mut line)
                    .expect("its port");
                let address = (Ipv4Addr::LOCALHOST, line.trim().parse().expect("a port"));
                server.kill().expect("kill");
                server.wait().expect("wait");
                let bound = if is_udp {
                    UdpSocket::bind(address).map(|_| ())
                } else {
                    TcpListener::bind(address).map(|_| ())
                };
                assert!(bound.is_ok(), "{engine} {waits}: {bound:?}");
            }
        }
    }
}
