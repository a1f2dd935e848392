//! More than ten thousand fibers on one OS thread, clients and servers, each blocked on a socket.

use testprogs::{Flavor, Run, program, skip};

/// The limit on pool threads.
const POOL: usize = 4;

#[test]
fn ten_thousand_blocking_fibers_are_served_by_one_thread() {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    for engine in ["uring", "aio", "threads"] {
        let run = |clients| {
            Run::new(program("resources/served", Flavor::Plain))
                .args(["-n", clients])
                .preload(true)
                .env("AIOSHIM_ENGINE", engine)
                .env("AIOSHIM_THREADS", POOL.to_string())
                .run()
        };
        // A client needs two descriptors, its own and that of its server. If the limit on open
        // descriptors is too low for 10000 clients, the test runs with half as many.
        let mut clients = "10000";
        let mut outcome = run(clients);
        if outcome.status.code() == Some(77) {
            clients = "5000";
            outcome = run(clients);
        }
        if outcome.status.code() == Some(77) {
            skip(&format!("served: {}", outcome.error_text()));
            return;
        }
        let outcome = outcome.success();
        assert_eq!(
            outcome.text(),
            format!("{clients} served, 3 rounds\nat once: {clients}\n"),
            "{engine}: {}",
            outcome.report()
        );
        let threads: usize = outcome
            .error_text()
            .trim()
            .strip_prefix("threads: ")
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("{engine}: {}", outcome.report()));
        assert!(threads <= cores + POOL, "{engine}: {threads} threads");
    }
}

/// The same program prints the same on pthreads and on three workers.
#[test]
fn clients_and_servers_on_threads_and_on_fibers() {
    let run = Run::new(program("resources/served", Flavor::Fortify)).args(["-n", "50", "-r", "20"]);
    let expected = run.clone().arg("--threads").output();
    for engine in ["uring", "aio", "threads"] {
        let preloaded = run
            .clone()
            .args(["-w", "3"])
            .preload(true)
            .env("AIOSHIM_ENGINE", engine);
        assert_eq!(preloaded.output(), expected, "{engine}");
    }
}
