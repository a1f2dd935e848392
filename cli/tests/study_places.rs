//! Checks that the experiments of the study measure what they should on this machine, and that they
//! leave nothing behind: no mount, no device, no file, and no process, however the study ends.

mod bench;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
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
    processes().find_map(|number| {
        let line = fs::read_to_string(format!("/proc/{number}/cmdline")).ok()?;
        let serves = line.contains("slow-files") && line.contains(&*dir);
        Pid::from_raw(number).filter(|_| serves)
    })
}

/// What a study has made on this machine, to find it again once the study has ended.
struct Made {
    /// The mount namespace with its file systems, unless it shares ours.
    namespace: Option<PathBuf>,
    /// Its RAM disks: directories in /sys with their inode numbers, because the next device gets
    /// the same name.
    ram_disks: Vec<(PathBuf, u64)>,
    /// The children that hold the RAM disks, and remove them before they end.
    holders: Vec<Pid>,
}

impl Made {
    /// What `study` has made in `dir` until now.
    fn by(study: &Child, dir: &Path) -> Made {
        let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
        let theirs = namespace(&study.id().to_string());
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", study.id()));
        let mounts = mounts.unwrap_or_default();
        let dir = dir.to_string_lossy();
        let devices = mounts.lines().filter(|line| line.contains(&*dir));
        let devices = devices.filter_map(|line| line.split_once(" - ")?.1.split(' ').nth(1));
        let devices: Vec<&str> = devices.collect();
        let ram_disks = devices
            .iter()
            .filter_map(|device| device.strip_prefix("/dev/zram"));
        let ram_disks = ram_disks.filter_map(|number| {
            let block = PathBuf::from(format!("/sys/block/zram{number}/"));
            let inode = fs::metadata(&block).ok()?.ino();
            Some((block, inode))
        });
        let made = Made {
            namespace: theirs.filter(|ns| Some(ns) != namespace("self").as_ref()),
            ram_disks: ram_disks.collect(),
            holders: ram_disk_holders(study),
        };
        if made.namespace.is_some() {
            let loops = devices.iter().filter(|name| name.starts_with("/dev/loop"));
            assert_eq!(loops.count(), loop_devices(&dir), "{mounts}");
        } else {
            eprintln!("no mount namespace, and so no loop device and no RAM disk, to look for");
        }
        made
    }

    /// What of it is left, in words. `dir` is the directory that the study used.
    fn left(&self, dir: &Path) -> Vec<String> {
        let name = dir.to_string_lossy();
        let mut left = Vec::new();
        if slow_files(dir).is_some() {
            left.push("the process that serves FUSE".to_owned());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        if mounts.contains(&*name) {
            left.push("a mount".to_owned());
        }
        if let Some(namespace) = &self.namespace
            && processes().any(|pid| is_in(pid, namespace))
        {
            left.push("a process in its mount namespace".to_owned());
        }
        if self.holders.iter().any(|pid| is_ram_disk(*pid)) {
            left.push("the process that holds the RAM disk".to_owned());
        }
        for (block, inode) in &self.ram_disks {
            if fs::metadata(block).is_ok_and(|now| now.ino() == *inode) {
                left.push(block.display().to_string());
            }
        }
        let loops = loop_devices(&name);
        if loops > 0 {
            left.push(format!("{loops} loop devices"));
        }
        left
    }
}

/// The process numbers of this moment.
fn processes() -> impl Iterator<Item = i32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_in(pid: i32, namespace: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|of| of == namespace)
}

/// The number of loop devices over files in the directory `dir`; the files have no name any more.
fn loop_devices(dir: &str) -> usize {
    let blocks = fs::read_dir("/sys/block").expect("/sys").flatten();
    let backing =
        blocks.filter_map(|block| fs::read_to_string(block.path().join("loop/backing_file")).ok());
    backing.filter(|file| file.starts_with(dir)).count()
}

/// Waits until nothing is left of a study that used `dir`.
fn expect_nothing_left(dir: &Path, made: &Made) {
    let start = Instant::now();
    loop {
        let left = made.left(dir);
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < LIMIT, "left: {left:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The children of `study` that hold a RAM disk, which they remove before they end.
fn ram_disk_holders(study: &Child) -> Vec<Pid> {
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
fn a_study_that_is_killed_leaves_no_mount_and_no_device() {
    let dir = scratch();
    let Some((mut study, _)) = with_fuse(dir.path()) else {
        eprintln!("skipped: no FUSE on this machine");
        return;
    };
    let made = Made::by(&study, dir.path());
    study.kill().expect("it is running");
    study.wait().expect("it ends");
    expect_nothing_left(dir.path(), &made);
}

#[test]
fn a_study_that_is_interrupted_twice_leaves_nothing() {
    let dir = scratch();
    let Some((mut study, _)) = with_fuse(dir.path()) else {
        eprintln!("skipped: no FUSE on this machine");
        return;
    };
    let pid = Pid::from_child(&study);
    let made = Made::by(&study, dir.path());
    // The second one is not taken for the first, because the command has answered that.
    for _ in 0..2 {
        // It may have ended after the first.
        let _ = kill_process(pid, Signal::INT);
        thread::sleep(Duration::from_millis(200));
    }
    study.wait().expect("it ends");
    expect_nothing_left(dir.path(), &made);
    assert_eq!(left_in(dir.path()), [""; 0]);
}

#[test]
fn a_file_system_that_dies_does_not_take_the_study_with_it() {
    let dir = scratch();
    let Some((mut study, fuse)) = with_fuse(dir.path()) else {
        eprintln!("skipped: no FUSE on this machine");
        return;
    };
    let made = Made::by(&study, dir.path());
    // It may have ended by itself.
    let _ = kill_process(fuse, Signal::KILL);
    study.wait().expect("it ends");
    expect_nothing_left(dir.path(), &made);
    assert!(dir.path().join("study.json").exists());
    assert_eq!(left_in(dir.path()), [""; 0]);
}
