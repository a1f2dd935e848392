//! The options of the shim: their effect, and the messages about wrong ones.

use testprogs::{Flavor, Outcome, Refusal, Run, Scratch, Stats, program, shared_object};

/// Runs a preloaded program on fibers with `variables`; its output must be correct regardless of
/// them.
fn with(variables: &[(&str, &str)]) -> Outcome {
    let dir = Scratch::new();
    let run = |extra: &str| {
        Run::new(program("apps/kvstore", Flavor::Lfs64))
            .args(["-n4", "-r20", extra])
            .arg(dir.join("store"))
    };
    let expected = run("--threads").output();
    let preloaded = run("-w1").preload(true);
    let outcome = variables
        .iter()
        .fold(preloaded, |run, (name, value)| run.env(*name, *value))
        .run()
        .success();
    assert_eq!(outcome.text(), expected);
    outcome
}

#[test]
fn silent_by_default() {
    assert_eq!(with(&[]).error_text(), "");
}

#[test]
fn off_passes_everything_through() {
    let dir = Scratch::new();
    let out = dir.join("stats");
    let outcome = with(&[
        ("AIOSHIM", "off"),
        ("AIOSHIM_STATS", "json"),
        ("AIOSHIM_OUT", out.to_str().expect("UTF-8")),
    ]);
    assert_eq!(outcome.error_text(), "");
    // The shim may write an empty report, or none.
    if out.exists() {
        let stats = Stats::read(&out).expect("statistics");
        assert!(
            stats.calls.values().all(|call| call.converted == 0),
            "{stats:?}"
        );
    }
}

#[test]
fn a_bad_value_is_named_with_what_was_expected_and_what_is_used() {
    for (name, value, expected) in [
        ("AIOSHIM", "perhaps", "on"),
        ("AIOSHIM_ENGINE", "warp", "uring"),
        ("AIOSHIM_THREADS", "0", "from 1"),
        ("AIOSHIM_STATS", "xml", "json"),
        ("AIOSHIM_LOG", "loud", "error"),
    ] {
        let text = with(&[(name, value)]).error_text();
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [name, value, expected, "default"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn an_unknown_name_gets_a_suggestion() {
    let text = with(&[("AIOSHIM_ENGIN", "uring")]).error_text();
    assert!(
        text.lines().count() == 1 && text.contains("AIOSHIM_ENGIN:"),
        "{text}"
    );
    assert!(text.contains("did you mean AIOSHIM_ENGINE?"), "{text}");
    let text = with(&[("AIOSHIM_NOTHING_LIKE_IT", "1")]).error_text();
    assert!(
        text.lines().count() == 1 && !text.contains("did you mean"),
        "{text}"
    );
    assert_eq!(
        with(&[("AIOSHIMMER", "1"), ("AIOSHIM_STATS", "")]).error_text(),
        ""
    );
}

#[test]
fn every_engine_gives_the_same() {
    for engine in ["auto", "uring", "aio", "threads", "sync"] {
        assert_eq!(with(&[("AIOSHIM_ENGINE", engine)]).error_text(), "");
    }
    // A single thread must do everything that otherwise needs the pool, and that must be enough.
    assert_eq!(
        with(&[("AIOSHIM_ENGINE", "threads"), ("AIOSHIM_THREADS", "1")]).error_text(),
        ""
    );
}

#[test]
fn linux_aio_without_free_contexts_is_reported_once_and_the_pool_takes_over() {
    let Some(launcher) = Refusal::CONTEXTS.launcher() else {
        return;
    };
    let dir = Scratch::new();
    let file = dir.file("file", vec![7; 1 << 20]);
    let run = || {
        Run::new(program("apps/randread", Flavor::Plain))
            .args(["-n32", "-r20", "--direct"])
            .arg(&file)
    };
    let expected = run().arg("--threads").output();
    for workers in ["-w1", "-w3"] {
        let run = run().arg(workers).preload(true).under(launcher.clone());
        let outcome = run.env("AIOSHIM_ENGINE", "aio").run().success();
        assert_eq!(outcome.text(), expected, "{}", outcome.report());
        let told = outcome.error_text();
        assert_eq!(told.lines().count(), 1, "{}", outcome.report());
        for part in ["fs.aio-max-nr", "thread pool"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn the_pool_has_no_more_threads_than_it_may() {
    let dir = Scratch::new();
    let run = Run::new(program("resources/pool_threads", Flavor::Plain))
        .dir(dir.path())
        .preload(true)
        .env("AIOSHIM_ENGINE", "threads");
    for most in 1..4 {
        let threads = run
            .clone()
            .env("AIOSHIM_THREADS", most.to_string())
            .output();
        let threads: u32 = threads.trim().parse().expect("a number");
        assert!(
            (1..=most).contains(&threads),
            "{threads} threads, and {most} at the most"
        );
    }
}

/// Runs an fsync on a fiber while another could run; returns the statistics and the messages.
fn synced(refusal: Option<Refusal>, variables: &[(&str, &str)]) -> Option<(Stats, String)> {
    let dir = Scratch::new();
    let run = Run::new(program("apps/applog", Flavor::Lfs64))
        .args(["-n8", "-r3", "-w1"])
        .arg(dir.join("log"))
        .preload(true)
        .env("AIOSHIM_STATS", "json");
    let run = variables
        .iter()
        .fold(run, |run, (name, value)| run.env(*name, *value));
    let run = match refusal {
        Some(refusal) => run.under(refusal.launcher()?),
        None => run,
    };
    let outcome = run.run().success();
    let text = outcome.error_text();
    let (stats, said): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with('{'));
    Some((
        Stats::parse(&stats.concat()).expect("statistics"),
        said.join("\n"),
    ))
}

#[test]
fn the_statistics_name_the_engine_and_why_none_above_it() {
    for (choice, engine) in [
        ("auto", "io_uring"),
        ("uring", "io_uring"),
        ("aio", "linux-aio"),
        ("threads", "threads"),
        ("sync", "sync"),
    ] {
        let (stats, said) =
            synced(None, &[("AIOSHIM_ENGINE", choice)]).expect("nothing is refused");
        assert_eq!((stats.engine.as_str(), said.as_str()), (engine, ""));
        let fsync = stats.call("fsync");
        assert_eq!(fsync.converted > 0, choice != "sync", "{stats:?}");
        assert_eq!(fsync.offloaded > 0, choice == "threads", "{stats:?}");
    }
    for refusal in Refusal::ALL {
        let Some((stats, said)) = synced(Some(refusal), &[]) else {
            return;
        };
        let engine = refusal.engine();
        assert_eq!(said, "", "{refusal:?}");
        assert!(
            stats.engine.starts_with(engine),
            "{refusal:?}: {}",
            stats.engine
        );
        assert_eq!(
            stats.engine.contains("io_uring: "),
            engine != "io_uring",
            "{}",
            stats.engine
        );
        assert_eq!(
            stats.engine.contains("Linux AIO: "),
            engine == "threads",
            "{}",
            stats.engine
        );
        // If an engine was requested by name and is not available, a message names the one that is
        // used.
        let (_, said) = synced(
            Some(refusal),
            &[("AIOSHIM_ENGINE", "uring"), ("AIOSHIM_OUT", "")],
        )
        .expect("as before");
        let missed = said
            .lines()
            .any(|line| line.contains("io_uring: ") && line.contains(engine));
        assert_eq!(missed, engine != "io_uring", "{refusal:?}: {said}");
    }
}

#[test]
fn statistics_go_where_they_are_sent() {
    let dir = Scratch::new();
    let out = dir.join("stats.%p");
    let outcome = with(&[
        ("AIOSHIM_STATS", "json"),
        ("AIOSHIM_OUT", out.to_str().expect("UTF-8")),
    ]);
    assert_eq!(outcome.error_text(), "");
    let files: Vec<_> = std::fs::read_dir(dir.path())
        .expect("the directory")
        .map(|e| e.expect("an entry").path())
        .collect();
    let [file] = files.as_slice() else {
        panic!("{files:?}")
    };
    let process = file
        .extension()
        .and_then(|e| e.to_str())
        .and_then(|e| e.parse::<u32>().ok());
    assert!(process.is_some(), "{}", file.display());
    let stats = Stats::read(file).expect("statistics");
    assert!(stats.call("pread64").total() > 0, "{stats:?}");
    // Without AIOSHIM_OUT they go to standard error. A path that cannot be written is no reason to
    // fail.
    assert!(
        with(&[("AIOSHIM_STATS", "1")])
            .error_text()
            .contains("pread64")
    );
    with(&[
        ("AIOSHIM_STATS", "json"),
        ("AIOSHIM_OUT", "/nowhere/at/all"),
    ]);
}

#[test]
fn a_library_loaded_late_is_converted_too() {
    let plugin = shared_object("runtime/hash_library", Flavor::Lfs64);
    let run = |name: &str| {
        let dir = Scratch::new();
        let run = Run::new(program("runtime/dlopened", Flavor::Lfs64))
            .env("PLUGIN", &plugin)
            .dir(dir.path());
        let stats = dir.join("stats");
        match name {
            "plain" => (run.arg("--threads").output(), None),
            _ => {
                let run = run
                    .preload(true)
                    .env("AIOSHIM_STATS", "json")
                    .env("AIOSHIM_OUT", &stats);
                (run.output(), Some(Stats::read(&stats).expect("statistics")))
            }
        }
    };
    let ((plain, _), (preloaded, stats)) = (run("plain"), run("preloaded"));
    assert_eq!(preloaded, plain);
    let stats = stats.expect("of the run with the preload");
    // Each of 16 fibers makes 50 reads and one that finds the end of the file.
    assert_eq!(stats.call("pread64").total(), 16 * 51, "{stats:?}");
}

#[test]
fn locks_that_are_switched_off_stay_libcs() {
    let run = |off: bool| {
        let dir = Scratch::new();
        let stats = dir.join("stats");
        let run = Run::new(program("sync/free_locks", Flavor::Plain)).dir(dir.path());
        let run = run
            .preload(true)
            .env("AIOSHIM_STATS", "json")
            .env("AIOSHIM_OUT", &stats);
        let run = if off {
            run.env("AIOSHIM_LOCKS", "off")
        } else {
            run
        };
        let output = run.output();
        (output, Stats::read(&stats).expect("statistics"))
    };
    let ((on_output, on), (off_output, off)) = (run(false), run(true));
    assert_eq!(on_output, off_output);
    for name in [
        "pthread_mutex_lock",
        "pthread_rwlock_wrlock",
        "sem_timedwait",
        "mtx_lock",
        "pthread_spin_lock",
    ] {
        assert!(on.call(name).inline > 0, "{name}: {on:?}");
        let call = off.call(name);
        assert!(
            call.total() > 0 && call.through.get("locks off") == Some(&call.total()),
            "{name}: {call:?}"
        );
    }
}
