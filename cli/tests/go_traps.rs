//! Go programs behave in the same way with the overlay as without it: the cases of `go/traps` print
//! the same, on each version of Go, on each engine, and where the kernel refuses them.

mod golang;

use golang::{Flavor, Go, newest, succeed, versions};
use serde_json::Value;
use testprogs::{Outcome, Refusal, Run, Scratch, c_compiler, skip};

/// How the engine is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Engine(&'static str),
    /// A seccomp filter refuses io_uring and Linux AIO, as in containers.
    Refused,
}

const WAYS: [Way; 5] = [
    Way::Engine("uring"),
    Way::Engine("aio"),
    Way::Engine("block"),
    Way::Engine("sync"),
    Way::Refused,
];

impl Way {
    /// The name of the engine in the statistics.
    fn engine(self) -> &'static str {
        match self {
            Way::Engine("uring") => "io_uring",
            Way::Engine("aio") => "linux-aio",
            Way::Engine("sync") => "sync",
            Way::Engine(_) | Way::Refused => "block",
        }
    }

    /// Adds it to a run. None if filters are not allowed here.
    fn choose(self, run: Run) -> Option<Run> {
        match self {
            Way::Engine(name) => Some(run.env("AIOSHIM_ENGINE", name)),
            Way::Refused => {
                let mut all = Refusal::ALL.into_iter();
                let refusal = all.find(|refusal| refusal.engine() == "threads")?;
                Some(run.under(refusal.launcher()?))
            }
        }
    }
}

/// What the statistics of a run must show.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// Nothing: the case need not use the engine.
    Any,
    /// The engine has read.
    Reads,
    /// The program does not exit by itself, so there are no statistics.
    None,
}

/// The input is a pipe with the content of a data file.
fn input() -> Vec<u8> {
    let words = (1..=2500_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

fn run(go: &Go, flavor: Flavor, case: &str, scratch: &Scratch) -> Run {
    let dir = tempfile_in(scratch);
    Run::new(go.program("traps", flavor))
        .args([case.into(), dir.into_os_string()])
        .stdin(input())
}

/// An empty directory.
fn tempfile_in(scratch: &Scratch) -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    scratch.subdir(&format!("d{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Runs a case without the overlay, and with it on every engine. Returns the last outcomes with
/// the overlay.
fn compare(case: &str, expect: Expect) -> Vec<(Way, Outcome)> {
    let mut outcomes = Vec::new();
    for go in versions() {
        let scratch = Scratch::new();
        let stock = run(&go, Flavor::Stock, case, &scratch).run();
        let ends = expect == Expect::None || stock.status.success();
        assert!(
            ends,
            "{}: {}",
            go.version,
            String::from_utf8_lossy(&stock.stdout)
        );
        outcomes.clear();
        for way in WAYS {
            let statistics = scratch.join("statistics");
            let run = run(&go, Flavor::Converted, case, &scratch)
                .env("AIOSHIM_STATS", "json")
                .env("AIOSHIM_OUT", &statistics);
            let Some(run) = way.choose(run) else { continue };
            let outcome = run.run();
            let context = || {
                format!(
                    "{} {way:?} {}\n--- stock\n{}\n--- converted\n{}\n{}",
                    go.version,
                    outcome.command,
                    String::from_utf8_lossy(&stock.stdout),
                    String::from_utf8_lossy(&outcome.stdout),
                    String::from_utf8_lossy(&outcome.stderr)
                )
            };
            assert_eq!(stock.status, outcome.status, "{}", context());
            assert_eq!(stock.stdout, outcome.stdout, "{}", context());
            if expect != Expect::None {
                let text = std::fs::read_to_string(&statistics).expect("statistics");
                check_statistics(&text, way, expect);
                std::fs::remove_file(&statistics).expect("ours");
            }
            outcomes.push((way, outcome));
        }
    }
    outcomes
}

fn check_statistics(text: &str, way: Way, expect: Expect) {
    let statistics: Value = serde_json::from_str(text).expect("JSON");
    if way == Way::Engine("uring") && statistics["uring_errno"] != 0 {
        return skip(&format!(
            "io_uring is refused here: {}",
            statistics["uring_errno"]
        ));
    }
    if expect != Expect::Reads {
        return;
    }
    assert_eq!(statistics["engine"], way.engine(), "{text}");
    // If an operation fails, the plain call decides.
    let count = |name: &str| statistics[name].as_u64().expect("a number");
    let reads = count("engine_reads") + count("failed");
    let asynchronous = matches!(way.engine(), "io_uring" | "linux-aio");
    assert_eq!(reads > 0, asynchronous, "{way:?}: {text}");
}

/// One test per case of `go/traps`.
macro_rules! traps {
    ($($name:ident $expect:ident;)*) => {
        $(
            #[test]
            fn $name() {
                compare(stringify!($name), Expect::$expect);
            }
        )*
    };
}

traps! {
    append Any;
    busy Reads;
    children Reads;
    close_during_read Reads;
    deadline Reads;
    deadlock None;
    descriptor Any;
    errors Any;
    exec Any;
    false_end Any;
    flags_changed Any;
    garbage Reads;
    goroutine_count Reads;
    growing Any;
    http Any;
    large Any;
    locked_thread Reads;
    no_deadlock Reads;
    no_nowait Any;
    open Any;
    panic None;
    position Reads;
    procs Reads;
    race_order Any;
    refused_later Any;
    ring_closed Any;
    seek_during_read Reads;
    stacks Reads;
    standard_input Any;
    thread_exit Reads;
    timers Reads;
    writes Any;
}

#[test]
fn ten_thousand_readers_need_few_threads() {
    for (way, outcome) in compare("many", Expect::Reads) {
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        let threads = said.lines().find_map(|line| line.strip_prefix("threads: "));
        let threads: u32 = threads.expect("the number").parse().expect("a number");
        if matches!(way.engine(), "io_uring" | "linux-aio") {
            assert!(threads < 100, "{way:?}: {threads} threads");
        }
    }
}

#[test]
fn stacks_and_memory_stay_intact_on_one_p_and_on_eight() {
    let Some(go) = newest() else { return };
    for case in ["stacks", "garbage", "position", "writes"] {
        for procs in ["1", "2", "8"] {
            for way in WAYS {
                let scratch = Scratch::new();
                let run = run(&go, Flavor::Converted, case, &scratch).env("GOMAXPROCS", procs);
                if let Some(run) = way.choose(run) {
                    run.output();
                }
            }
        }
    }
}

#[test]
fn the_race_detector_finds_nothing() {
    let Some(go) = newest() else { return };
    if !c_compiler_found() {
        return;
    }
    for case in [
        "stacks",
        "position",
        "race_order",
        "writes",
        "append",
        "http",
        "large",
    ] {
        for way in WAYS {
            let scratch = Scratch::new();
            if let Some(run) = way.choose(run(&go, Flavor::Race, case, &scratch)) {
                run.output();
            }
        }
    }
}

/// The race detector and cgo need a C compiler. Skips if there is none.
fn c_compiler_found() -> bool {
    let found = std::process::Command::new(c_compiler())
        .arg("--version")
        .output();
    if found.is_err() {
        skip("there is no C compiler");
    }
    found.is_ok()
}

#[test]
fn a_synctest_bubble_waits_for_reads() {
    for go in versions() {
        if go.minor() < 25 {
            eprintln!("{}: has no testing/synctest", go.version);
            continue;
        }
        for engine in ["uring", "aio", "block"] {
            let mut test = go.aioshim("test");
            test.args(["-count=1", "."]).env("AIOSHIM_ENGINE", engine);
            succeed(test.current_dir(golang::source("synctest")));
        }
    }
}

#[test]
fn cgo_plugins_and_shared_libraries_work() {
    let Some(go) = newest() else { return };
    if !c_compiler_found() {
        return;
    }
    let scratch = Scratch::new();
    let build = |mode: &str, package: &str, output: &str| {
        let mut build = go.aioshim("build");
        build
            .env("CGO_ENABLED", "1")
            .current_dir(golang::source("cgo"));
        build
            .arg(format!("-buildmode={mode}"))
            .arg("-o")
            .arg(scratch.join(output));
        succeed(build.arg(package));
    };
    build("exe", ".", "host");
    build("plugin", "./plugged", "plugged.so");
    build("c-shared", "./shared", "libshared.so");
    let mut cc = std::process::Command::new(c_compiler());
    cc.arg(golang::source("cgo/caller/main.c"))
        .arg("-o")
        .arg(scratch.join("main"));
    cc.arg(scratch.join("libshared.so"))
        .arg(format!("-I{}", scratch.path().display()));
    cc.arg(format!("-Wl,-rpath,{}", scratch.path().display()));
    succeed(&mut cc);
    for way in WAYS {
        for program in ["host", "main"] {
            let dir = tempfile_in(&scratch);
            let run = Run::new(scratch.join(program))
                .arg(dir)
                .arg(scratch.join("plugged.so"));
            if let Some(run) = way.choose(run) {
                assert_eq!(run.output(), "ok\n");
            }
        }
    }
}
