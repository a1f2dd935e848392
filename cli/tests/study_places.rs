//! Checks that the experiments of the study measure what they should on this machine, and that they
//! leave nothing behind: no mount, no device, no file, and no process, however the study ends.

mod bench;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bench::{measure_in, scratch};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Measures one round of `question`, in which nothing may fail. Returns the experiments.
fn question(number: u8) -> Vec<Value> {
    let dir = scratch();
    let mut command = measure_in(dir.path());
    command.args(["--rounds", "1", "--question", &number.to_string()]);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let text = fs::read_to_string(dir.path().join("study.json")).expect("the result file");
    let mut study: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(left_in(dir.path()), [""; 0]);
    let Value::Array(experiments) = study["experiments"].take() else {
        panic!("no experiments: {text}");
    };
    for experiment in &experiments {
        let id = &experiment["id"];
        assert_eq!(experiment["failures"], Value::Array(Vec::new()), "{id}");
        match experiment["skipped"].as_str() {
            Some(reason) => eprintln!("skipped: {id}: {reason}"),
            None => check(experiment),
        }
    }
    experiments
}

/// Every cell has figures, and the sentence names only findings that were measured.
fn check(experiment: &Value) {
    let id = &experiment["id"];
    for cell in experiment["cells"].as_array().expect("cells") {
        let figures = cell["figures"].as_object().expect("figures");
        assert!(!figures.is_empty(), "{id}: {cell}");
    }
    let answer = &experiment["answer"];
    let sentence = answer["sentence"].as_str().expect("a sentence");
    for part in sentence.split('{').skip(1) {
        let (name, _) = part.split_once('}').expect("a closed brace");
        let value = &answer["findings"][name]["value"];
        assert!(value.is_number(), "{id}: {name} in {sentence:?}");
    }
    assert!(
        !answer["plots"].as_array().expect("plots").is_empty(),
        "{id}"
    );
}

/// The names in `dir` that a study may not leave there.
fn left_in(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("a directory").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("study.") && !name.contains("study.json"))
        .filter(|name| !name.ends_with(".html"))
        .collect()
}

#[test]
fn blocking_calls() {
    let experiments = question(1);
    assert_eq!(experiments.len(), 3);
    let sizes = experiments[0]["cells"].as_array().expect("cells");
    let cached = |size: f64| {
        let cell = sizes.iter().find(|cell| {
            cell["contender"] == "cached read" && cell["at"]["size"].as_f64() == Some(size)
        });
        cell.expect("a cell")["figures"]["CPU"]["median"]
            .as_f64()
            .expect("a number")
    };
    // The processor time of a copy of 4 MiB does not depend on what else the machine does.
    assert!(cached(4194304.0) > cached(1.0));
}

#[test]
fn descheduling() {
    question(2);
}

#[test]
fn asynchronous_reads() {
    question(3);
}

#[test]
fn completions() {
    question(4);
}

#[test]
fn wake_ups() {
    question(5);
}

#[test]
fn write_back() {
    question(7);
}

/// A study of question 1 in `dir`, at the moment when a FUSE file system is mounted. `None` if it
/// ends before, because there is no FUSE.
fn with_fuse(dir: &Path) -> Option<(Child, Pid)> {
    let mut command = measure_in(dir);
    command.args(["--rounds", "1", "--question", "1"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut study = child.expect("it starts");
    let start = Instant::now();
    loop {
        if let Some(pid) = slow_files(dir) {
            return Some((study, pid));
        }
        if study.try_wait().expect("its status").is_some() {
            return None;
        }
        if start.elapsed() > LIMIT {
            study.kill().expect("it is running");
            study.wait().expect("it ends");
            panic!("the study neither mounts FUSE nor ends");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The process that serves a FUSE file system in `dir`.
fn slow_files(dir: &Path) -> Option<Pid> {
    let dir = dir.to_string_lossy();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find_map(|number: i32| {
        let line = fs::read_to_string(format!("/proc/{number}/cmdline")).ok()?;
        let serves = line.contains("slow-files") && line.contains(&*dir);
        Pid::from_raw(number).filter(|_| serves)
    })
}

/// Waits until nothing is mounted in `dir`, and no process of a study that used it is left.
fn expect_nothing_left(dir: &Path, ram_disks: &[Pid]) {
    let start = Instant::now();
    let name = dir.to_string_lossy();
    loop {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let (served, mounted) = (slow_files(dir).is_some(), mounts.contains(&*name));
        let held = ram_disks.iter().any(|pid| is_ram_disk(*pid));
        if !served && !mounted && !held {
            return;
        }
        assert!(
            start.elapsed() < LIMIT,
            "served: {served}, mounted: {mounted}, RAM disk held: {held}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// The children of `study` that hold a RAM disk, which they remove before they end.
fn ram_disks(study: &Child) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", study.id());
    let children = fs::read_to_string(path).unwrap_or_default();
    let numbers = children
        .split_whitespace()
        .filter_map(|word| word.parse().ok());
    let pids = numbers.filter_map(Pid::from_raw);
    pids.filter(|pid| is_ram_disk(*pid)).collect()
}

fn is_ram_disk(pid: Pid) -> bool {
    let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    fs::read_to_string(path).is_ok_and(|line| line.contains("ram-disk"))
}

#[test]
fn a_study_that_is_killed_leaves_nothing_mounted() {
    let dir = scratch();
    let Some((mut study, _)) = with_fuse(dir.path()) else {
        eprintln!("skipped: no FUSE on this machine");
        return;
    };
    let disks = ram_disks(&study);
    study.kill().expect("it is running");
    study.wait().expect("it ends");
    expect_nothing_left(dir.path(), &disks);
}

#[test]
fn a_study_that_is_interrupted_twice_leaves_nothing() {
    let dir = scratch();
    let Some((mut study, _)) = with_fuse(dir.path()) else {
        eprintln!("skipped: no FUSE on this machine");
        return;
    };
    let pid = Pid::from_child(&study);
    let disks = ram_disks(&study);
    // The second one is not taken for the first, because the command has answered that.
    for _ in 0..2 {
        // It may have ended after the first.
        let _ = kill_process(pid, Signal::INT);
        thread::sleep(Duration::from_millis(200));
    }
    study.wait().expect("it ends");
    expect_nothing_left(dir.path(), &disks);
    assert_eq!(left_in(dir.path()), [""; 0]);
}

#[test]
fn a_file_system_that_dies_does_not_take_the_study_with_it() {
    let dir = scratch();
    let Some((mut study, fuse)) = with_fuse(dir.path()) else {
        eprintln!("skipped: no FUSE on this machine");
        return;
    };
    // It may have ended by itself.
    let _ = kill_process(fuse, Signal::KILL);
    study.wait().expect("it ends");
    expect_nothing_left(dir.path(), &[]);
    assert!(dir.path().join("study.json").exists());
    assert_eq!(left_in(dir.path()), [""; 0]);
}
