//! Programs behave the same as plain ones on every file system. File systems differ in how they
//! support RWF_NOWAIT, O_DIRECT and io_uring.

use std::path::Path;

use testprogs::{Flavor, Mounted, Run, program};

const ENGINES: [&str; 3] = ["uring", "aio", "threads"];

/// The probes that use files, and programs with their arguments.
const PROBES: [&str; 8] = [
    "file/transfer_limits",
    "file/position",
    "file/direct",
    "file/open_flags",
    "file/shared_position",
    "task/with_thread",
    "stdio/reused_descriptor",
    "file/size_limit",
];
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("apps/applog", &["-n16", "-r10", "log"]),
    ("apps/kvstore", &["-r60", "store"]),
    ("apps/randread", &["-r50", "--direct", "large"]),
];

/// The output of a program in a new directory below `root`.
fn output(name: &str, args: &[&str], root: &Path, engine: Option<&str>) -> String {
    let dir = root.join("work");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("large"), vec![7; 2 << 20]).expect("a file");
    let run = Run::new(program(name, Flavor::Lfs64))
        .args(args.iter().copied())
        .dir(&dir);
    let run = match engine {
        Some(engine) => run.arg("-w1").preload(true).env("AIOSHIM_ENGINE", engine),
        None => run.arg("--threads"),
    };
    let outcome = run.run();
    std::fs::remove_dir_all(&dir).expect("it can be removed");
    format!("{}{:?}", outcome.text(), outcome.status)
}

fn same_on(root: &Path) {
    let probes = PROBES.map(|probe| (probe, &[][..]));
    for (name, args) in probes.into_iter().chain(PROGRAMS) {
        let expected = output(name, args, root, None);
        for engine in ENGINES {
            assert_eq!(
                output(name, args, root, Some(engine)),
                expected,
                "{name} on {engine}"
            );
        }
    }
}

fn same_on_image(kind: &str) {
    if let Some(mounted) = Mounted::new(kind) {
        same_on(mounted.path());
    }
}

#[test]
fn ext4() {
    same_on_image("ext4");
}

#[test]
fn xfs() {
    same_on_image("xfs");
}

#[test]
fn btrfs() {
    same_on_image("btrfs");
}

#[test]
fn tmpfs() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there");
    same_on(dir.path());
}
