//! Checks that `aioshim measure` measures, prints and writes everything it should, but not how fast
//! anything is.

mod bench;
mod golang;

use std::path::Path;
use std::process::{Command, Output};

use bench::{measure_in, scratch};
use serde_json::Value;
use tempfile::TempDir;

fn measure(scratch: &TempDir, args: &[&str]) -> Output {
    command(scratch, args).output().expect("it starts")
}

fn command(scratch: &TempDir, args: &[&str]) -> Command {
    let mut command = measure_in(scratch.path());
    command.args(["--quick", "--rounds", "1"]).args(args);
    command
}

/// Runs the command, which must succeed. Returns its output and the JSON of `part`.
fn report(args: &[&str], part: &str) -> (String, Value) {
    let scratch = scratch();
    let output = measure(&scratch, args);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let text = std::fs::read_to_string(scratch.path().join(part).with_extension("json"))
        .expect("the JSON file exists");
    (stdout, serde_json::from_str(&text).expect("it is JSON"))
}

#[test]
fn overhead_has_every_mode_of_every_call() {
    let (stdout, json) = report(&["--only", "overhead"], "overhead");
    let calls = json["samples"].as_object().expect("the calls");
    assert_eq!(calls.len(), 9);
    for (name, call) in calls {
        let modes = call["modes"].as_object().expect("the modes");
        for (mode, value) in modes {
            assert!(
                value["ns"]["median"].as_f64().is_some_and(|ns| ns > 0.0),
                "{name} {mode}"
            );
        }
    }
    assert_eq!(
        stdout.matches("\nbar: ").count(),
        json["bars"].as_array().map_or(0, Vec::len)
    );
    assert!(!stdout.contains("not measured"), "{stdout}");
    assert!(!stdout.contains('\x1b'), "colours only on a terminal");
}

#[test]
fn go_programs_are_measured_with_the_overlay_and_without_it() {
    let Some(go) = golang::newest() else { return };
    let scratch = scratch();
    let mut command = command(&scratch, &["--only", "go"]);
    for (name, value) in go.stock().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let root = golang::succeed(go.stock().args(["env", "GOROOT"]));
    let bin = Path::new(root.trim()).join("bin");
    let folders = std::iter::once(bin).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).expect("no colons"));
    let stdout = golang::succeed(&mut command);
    let wrk = !stdout.contains("wrk is not installed");
    let databases = ["badger", "goleveldb"].map(|name| {
        let missing = format!("{name} is not measured: its sources are not installed");
        !stdout.contains(&missing)
    });
    let programs = [wrk, databases[0], databases[1]].map(|there| usize::from(there) * 4);
    if programs == [4; 3] {
        assert!(!stdout.contains("not measured"), "{stdout}");
    }
    let text = std::fs::read_to_string(scratch.path().join("go.json")).expect("the JSON file");
    let json: Value = serde_json::from_str(&text).expect("it is JSON");
    let cases = json["samples"]["cases"].as_array().expect("the cases");
    assert_eq!(cases.len(), 17 + programs.iter().sum::<usize>(), "{stdout}");
    for case in cases {
        let name = case["case"].as_str().expect("a name");
        let by = case["by"].as_object().expect("the participants");
        assert_eq!(by.len(), 6);
        let none = name.contains(" x 0,");
        let starts_with = |kinds: &[&str]| kinds.iter().any(|kind| name.starts_with(kind));
        let has = |who: &str| match who {
            "converted, engine aio" => starts_with(&["direct"]) && !none,
            "converted, engine block" => starts_with(&["direct", "cold", "synced"]) && !none,
            "stock, GOMAXPROCS=16" => !none && !name.contains(" x 1,"),
            _ => true,
        };
        for (name, value) in by.iter().filter(|(name, _)| has(name)) {
            let rate = value["rate"]["median"].as_f64();
            // Without readers only the turns count.
            assert!(
                rate.is_some_and(|rate| rate > 0.0 || none),
                "{name}: {case}"
            );
        }
    }
}

#[test]
fn fibers_park_by_the_hundred_thousand() {
    let (stdout, json) = report(&["--only", "fibers"], "fibers");
    for (crowd, count) in [
        ("parked", 100_000),
        ("waiting", 50_000),
        ("sleeping", 50_000),
    ] {
        let told = &json["samples"][crowd];
        assert_eq!(
            (&told["asked"], &told["made"]),
            (&count.into(), &count.into()),
            "{stdout}"
        );
    }
    assert!(json["environment"]["kernel"].is_string());
    assert!(stdout.contains("bar: fiber_yield between 2 fibers <= 8.00 ns: "));
}

/// All in one run, because they read the same file.
#[test]
fn the_parts_of_full_measure_everyone() {
    let scratch = scratch();
    let parts = ["engines", "cold", "mixed", "matrix"];
    let output = measure(&scratch, &parts.map(|part| ["--only", part]).concat());
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let [engines, cold, mixed, matrix] = parts.map(|part| {
        let text = std::fs::read_to_string(scratch.path().join(part).with_extension("json"))
            .expect("each part has a JSON file");
        serde_json::from_str::<Value>(&text).expect("it is JSON")
    });
    let everyone = |by: &Value, names: &[&str]| {
        for name in names {
            let rate = by[name]["rate"]["median"].as_f64();
            assert!(rate.is_some_and(|rate| rate > 0.0), "{name}: {by}");
        }
    };
    let cases = |part: &Value, many: usize| {
        let cases = part["samples"].as_array().expect("the cases").clone();
        assert_eq!(cases.len(), many);
        cases
    };
    for case in cases(&engines, 5) {
        everyone(&case["by"], &["uring", "aio", "threads"]);
    }
    everyone(
        &cold["samples"]["buffered"]["by"],
        &["128 fibers", "128 pthreads"],
    );
    everyone(&cold["samples"]["sequential"]["by"], &["1 fiber", "plain"]);
    for case in cases(&mixed, 6) {
        everyone(
            &case["by"],
            &[
                "64 fibers",
                "64 fibers, 1 worker",
                "64 pthreads",
                "pool of 2",
                "pool of 32",
            ],
        );
    }
    for cell in cases(&matrix, 22) {
        everyone(
            &cell["by"],
            &["auto", "uring", "aio", "threads", "sync", "pthreads"],
        );
    }
    assert!(stdout.contains(" of 22 cells within 1.1x"), "{stdout}");
    assert!(stdout.contains("bar: refused io_uring, aio, 128 fibers: IOPS >= 0.90x uring's: "));
    assert!(scratch.path().join("mixed.svg").exists());
}

#[test]
fn without_an_engine_it_says_so_and_goes_on() {
    let scratch = scratch();
    let output = measure(&scratch, &["--only", "fibers", "--engine", "sync"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("note: nothing is asynchronous here"),
        "{stdout}"
    );
    assert!(stdout.contains("not measured: parked fibers"), "{stdout}");
    assert!(stdout.contains("fiber_yield, 2 fibers"), "{stdout}");
    assert!(!output.status.success(), "a part is missing");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_aioshim"))
        .args(["measure", "--dir", "/proc/none"])
        .output()
        .expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("aioshim: --dir /proc/none: cannot create the directory"),
        "{stderr}"
    );
    assert!(!output.status.success());
}

#[test]
fn an_unknown_engine_is_refused() {
    let output = measure(&scratch(), &["--only", "fibers", "--engine", "foo"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("uring, aio, threads, sync"), "{stderr}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn missing_programs_are_named_with_what_builds_them() {
    let scratch = scratch();
    let output = Command::new(env!("CARGO_BIN_EXE_aioshim"))
        .args(["measure", "--programs", "/proc/none"])
        .arg("--dir")
        .arg(scratch.path())
        .arg("--json")
        .arg(scratch.path())
        .output()
        .expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("aioshim: no benchmark programs in /proc/none; scripts/measure"),
        "{stderr}"
    );
    assert!(!output.status.success());
}

#[test]
fn whole_programs_do_their_work_on_fibers_and_on_pthreads() {
    let (stdout, json) = report(&["--only", "programs"], "programs");
    let cases = json["samples"].as_array().expect("the programs");
    assert_eq!(cases.len(), 17);
    let nginx = !stdout.contains("note: nginx is not installed");
    let redis = !stdout.contains("note: redis-benchmark is not installed");
    for case in cases {
        let by = case["by"].as_object().expect("by whom");
        assert!(by.len() >= 3, "{case}");
        let program = case["program"].as_str().expect("a name");
        for (name, figures) in by {
            if name == "nginx" && !nginx || program.contains("redis-benchmark") && !redis {
                continue;
            }
            let rate = figures["rate"]["median"].as_f64();
            assert!(rate.is_some_and(|rate| rate > 0.0), "{name}: {case}");
            assert_eq!(figures["failed_requests"], 0.0, "{name}: {case}");
        }
    }
    assert!(
        stdout.contains("\nWhole programs: fibers meet the goal in "),
        "{stdout}"
    );
    assert_eq!(stdout.matches("\nbar: ").count(), 13, "{stdout}");
    if nginx {
        assert!(!stdout.contains("not measured"), "{stdout}");
    } else {
        println!("without nginx, which is not installed");
    }
    if !redis {
        println!("without redis-benchmark, which is not installed");
    }
}

#[test]
fn stdio_has_every_call() {
    let (stdout, json) = report(&["--only", "stdio"], "stdio");
    assert_eq!(
        json["samples"].as_object().map(serde_json::Map::len),
        Some(7)
    );
    assert!(!stdout.contains("failed"), "{stdout}");
}

#[test]
fn locks_have_every_kind_in_every_mode() {
    let (stdout, json) = report(&["--only", "locks"], "locks");
    let cases = json["samples"].as_array().expect("the cases");
    assert_eq!(cases.len(), 10);
    for case in cases {
        for mode in ["plain", "plain again", "off a fiber", "on a fiber"] {
            let ns = case["modes"][mode]["ns"]["median"].as_f64();
            assert!(ns.is_some_and(|ns| ns > 0.0), "{mode}: {case}");
        }
    }
    assert_eq!(stdout.matches("\nbar: ").count(), 10, "{stdout}");
    assert!(!stdout.contains("not measured"), "{stdout}");
}

#[test]
fn pingpong_has_everyone_and_all_are_converted() {
    let (stdout, json) = report(&["--only", "pingpong"], "pingpong");
    let by = json["samples"].as_object().expect("by whom");
    assert_eq!(by.len(), 6);
    for (name, figures) in by {
        let ns = figures["ns"]["median"].as_f64();
        assert!(ns.is_some_and(|ns| ns > 0.0), "{name}: {figures}");
    }
    assert!(!stdout.contains("not converted"), "{stdout}");
    assert!(!stdout.contains("not measured"), "{stdout}");
}
