//! Replays traces of the C programs. Every row is understood, the replay makes the same decisions
//! as the shim, and in total the policy costs less than any rule that always makes the same
//! decision. The costs come from a model; nothing is timed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use testprogs::{Flavor, Run, Scratch, Tool, c_sources, program, skip, target_dir, workspace};

/// The command under test. It belongs to another package, so it is built first if necessary.
fn aioshim() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "aioshim-cli",
                "--bin",
                "aioshim",
            ])
            .current_dir(workspace())
            .status()
            .expect("cargo runs");
        assert!(status.success(), "aioshim does not build");
        target_dir().join("debug/aioshim")
    })
}

/// The output of `aioshim simulate --json` for `traces`.
fn simulate(traces: &[PathBuf]) -> Value {
    let text = Run::new(aioshim())
        // A copy that was preempted looks throttled; on a busy machine that must not decide the
        // result.
        .args(["simulate", "--json", "--cost", "throttle=100000"])
        .args(traces)
        .output();
    serde_json::from_str(&text).expect("JSON")
}

/// Records a trace of a program on one worker in `dir`.
fn record(dir: &Scratch, name: &str, source: &str, args: &[&str], paths: &[PathBuf]) -> PathBuf {
    let trace = dir.join(format!("{name}.csv"));
    let outcome = Run::new(program(source, Flavor::Lfs64))
        .arg("-w1")
        .args(args)
        .args(paths)
        .preload(true)
        .env("AIOSHIM_TRACE", &trace)
        .run()
        .success();
    assert_eq!(outcome.error_text(), "", "a trace is recorded in silence");
    trace
}

/// Drops `file` from the page cache, if possible.
fn drop_cached(file: &PathBuf) {
    let Some(dd) = Tool::find("dd") else { return };
    let mut input = std::ffi::OsString::from("if=");
    input.push(file);
    Run::new(dd.path())
        .arg(input)
        .args(["iflag=nocache", "count=0"])
        .run();
}

fn traces(dir: &Scratch) -> Vec<PathBuf> {
    let large = dir.file("large", vec![7; 8 << 20]);
    let file = std::slice::from_ref(&large);
    fs::File::open(&large)
        .and_then(|f| f.sync_all())
        .expect("synced");
    let log = [dir.join("log")];
    let sources: Vec<PathBuf> = fs::read_dir(c_sources().join("file"))
        .expect("the sources")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    let mut traces = vec![
        record(dir, "cached-64", "apps/randread", &["-n64", "-r100"], file),
        record(dir, "cached-4", "apps/randread", &["-n4", "-r1000"], file),
        record(dir, "streak", "apps/randread", &["-n4", "-r4000"], file),
        record(
            dir,
            "cold",
            "apps/randread",
            &["-n32", "-r20", "--cold"],
            file,
        ),
        record(
            dir,
            "warming",
            "apps/randread",
            &["-n4", "-r1000", "--cold"],
            file,
        ),
        record(dir, "applog", "apps/applog", &["-n16", "-r10"], &log),
        record(dir, "pipeline", "apps/pipeline", &["-n6"], &[]),
        record(
            dir,
            "wordcount",
            "apps/wordcount",
            &["-n4", "-b700"],
            &sources,
        ),
        record(
            dir,
            "wordcount-1",
            "apps/wordcount",
            &["-n1", "-b700"],
            &sources,
        ),
    ];
    drop_cached(&large);
    traces.push(record(
        dir,
        "sequential",
        "apps/wordcount",
        &["-n2", "-b4096"],
        &[large.clone(), large.clone()],
    ));
    let direct = Run::new(program("apps/randread", Flavor::Lfs64))
        .args(["-n1", "-r1", "--direct"])
        .arg(&large)
        .run();
    if direct.status.code() == Some(77) {
        skip("no O_DIRECT here");
    } else {
        traces.push(record(
            dir,
            "direct",
            "apps/randread",
            &["-n32", "-r20", "--direct"],
            file,
        ));
    }
    traces
}

fn regret(replay: &Value, contender: &str) -> f64 {
    let regret = &replay["contenders"][contender]["regret_ns_a_call"];
    regret
        .as_f64()
        .unwrap_or_else(|| panic!("{contender}: {replay}"))
}

#[test]
fn the_policy_is_cheaper_than_any_fixed_rule_and_replays_as_it_ran() {
    let dir = Scratch::new();
    let traces = traces(&dir);
    let report = simulate(&traces);
    let all = &report["all"];
    let contenders = all["contenders"].as_object().expect("contenders");
    let fixed: Vec<&String> = contenders
        .iter()
        .filter(|(_, c)| c["fixed"] == true)
        .map(|(n, _)| n)
        .collect();
    assert_eq!(fixed, ["always plain", "always submit", "always try"]);
    for rule in fixed {
        assert!(
            regret(all, "the policy") < regret(all, rule),
            "{rule}: {all}"
        );
    }
    for replay in report["traces"].as_array().expect("traces") {
        assert!(replay["calls"].as_u64() > Some(0), "{replay}");
        for contender in contenders.keys() {
            assert!(
                regret(replay, contender) >= 0.0,
                "the oracle is beaten: {replay}"
            );
        }
        if replay["name"] == "streak" {
            // After ten thousand hits in a row, reads are plain calls.
            let plain = &replay["contenders"]["the policy"]["hits"]["plain"];
            assert!(plain.as_u64() > Some(4000), "{replay}");
        }
        // Submitted calls never block other fibers, nor do calls that the policy tries.
        assert_eq!(replay["contenders"]["always submit"]["blocked_ns"], 0.0);
    }
    // A call that waited for the position lock may be decided with more knowledge than at its
    // recorded start.
    let count = |of: &str| all[of].as_u64().expect("a count");
    assert!(count("as_recorded") * 100 >= count("calls") * 98, "{all}");
}

#[test]
fn every_call_on_a_fiber_has_a_row() {
    let dir = Scratch::new();
    let file = dir.file("file", vec![1; 1 << 20]);
    // More rows than a thread keeps in memory.
    let trace = record(&dir, "rows", "apps/randread", &["-n8", "-r1500"], &[file]);
    let text = fs::read_to_string(&trace).expect("a trace");
    let reads = text
        .lines()
        .filter(|line| line.contains(",pread64,"))
        .count();
    assert_eq!(reads, 8 * 1500);
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("at,thread,"))
            .count(),
        1
    );
}

#[test]
fn a_trace_that_cannot_be_written_is_said_once_and_is_no_reason_to_fail() {
    let dir = Scratch::new();
    let file = dir.file("file", vec![1; 1 << 20]);
    let outcome = Run::new(program("apps/randread", Flavor::Lfs64))
        .args(["-w1", "-n8", "-r1500"])
        .arg(file)
        .preload(true)
        .env("AIOSHIM_TRACE", "/nowhere/at/all")
        .run()
        .success();
    let said = outcome.error_text();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("aioshim: AIOSHIM_TRACE=/nowhere/at/all: "),
        "{said}"
    );
}

#[test]
fn what_is_no_trace_is_named_with_its_line() {
    let dir = Scratch::new();
    let bad = dir.file("bad.csv", "something else\n");
    let outcome = Run::new(aioshim()).arg("simulate").arg(&bad).run();
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.report());
    assert!(
        outcome.error_text().contains("bad.csv: is not a trace"),
        "{}",
        outcome.report()
    );
    let outcome = Run::new(aioshim())
        .args(["simulate", "--cost", "divice=1"])
        .arg(&bad)
        .run();
    assert!(
        outcome.error_text().contains("one of plain, try_hit"),
        "{}",
        outcome.report()
    );
}
