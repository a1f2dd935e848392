//! Mounts `aioshim slow-files` and checks what a program sees: the content, the latency of each
//! call, that calls do not wait for each other, and that nothing stays mounted.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const LATENCY: Duration = Duration::from_millis(20);
const FILES: usize = 40;
const SIZE: usize = 300_000;

/// The mounted file system.
struct Mounted {
    child: Child,
    dir: TempDir,
}

impl Mounted {
    /// Mounts it, or returns `None` and prints the reason where FUSE cannot be used.
    fn new() -> Option<Mounted> {
        if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            eprintln!("skipped: /dev/fuse: {error}");
            return None;
        }
        let dir = TempDir::new().expect("a directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_aioshim"))
            .arg("slow-files")
            .arg(dir.path())
            .args(["--latency-us", &LATENCY.as_micros().to_string()])
            .args(["--files", &FILES.to_string(), "--size", &SIZE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        if line == "ready\n" {
            return Some(Mounted { child, dir });
        }
        let mut said = String::new();
        let mut stderr = child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut said).expect("its errors");
        child.wait().expect("it ends");
        // Inside some containers there is a /dev/fuse, but mount(2) is not permitted.
        assert!(said.contains("cannot mount"), "{said}");
        eprintln!("skipped: {said}");
        None
    }

    fn path(&self, file: usize) -> std::path::PathBuf {
        self.dir.path().join(file.to_string())
    }

    /// Closes its standard input. It must unmount and end by itself.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it ends").success());
        assert!(!is_mounted(self.dir.path()));
        assert_eq!(
            fs::read_dir(self.dir.path()).expect("a directory").count(),
            0
        );
    }
}

fn is_mounted(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
    mounts.contains(&format!(" {} ", dir.display()))
}

/// Returns the result of `call` and how long it took.
fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = call();
    (result, start.elapsed())
}

#[test]
fn each_call_takes_the_latency_and_reads_what_it_should() {
    let Some(mounted) = Mounted::new() else {
        return;
    };
    let (whole, took) = timed(|| fs::read(mounted.path(3)).expect("a read"));
    assert!(took >= LATENCY, "{took:?}");
    assert_eq!(whole.len(), SIZE);
    assert_ne!(whole[..4096], whole[4096..8192]);
    assert_eq!(whole[4104..8208], whole[..4104]);

    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mounted.path(3));
    let file = file.expect("it opens");
    let mut part = vec![0; 5000];
    file.read_exact_at(&mut part, 12345).expect("a read");
    assert_eq!(part, whole[12345..17345]);
    let (written, took) = timed(|| file.write_at(b"discarded", 0));
    assert_eq!(written.expect("a write"), 9);
    assert!(took >= LATENCY, "{took:?}");
    let (synced, took) = timed(|| file.sync_all());
    synced.expect("it is accepted");
    assert!(took >= LATENCY, "{took:?}");
    drop(file);
    mounted.end();
}

#[test]
fn concurrent_reads_do_not_wait_for_each_other() {
    let Some(mounted) = Mounted::new() else {
        return;
    };
    let (_, took) = timed(|| {
        thread::scope(|scope| {
            for file in 0..FILES {
                let path = mounted.path(file);
                scope.spawn(move || {
                    let mut byte = [0];
                    let file = File::open(path).expect("it opens");
                    file.read_exact_at(&mut byte, 0).expect("a read");
                });
            }
        });
    });
    // One after the other would take FILES latencies; a busy machine may double one of them.
    assert!(took >= LATENCY);
    assert!(took < LATENCY * FILES as u32 / 2, "{took:?}");
    mounted.end();
}

#[test]
fn names_that_do_not_exist_are_refused() {
    let Some(mounted) = Mounted::new() else {
        return;
    };
    let names = [FILES.to_string(), u64::MAX.to_string(), "x".to_owned()];
    for name in names {
        let error = File::open(mounted.dir.path().join(&name)).expect_err(&name);
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    assert_eq!(
        fs::read_dir(mounted.dir.path()).expect("it lists").count(),
        FILES
    );
    mounted.end();
}

#[test]
fn an_open_file_does_not_keep_the_directory_mounted() {
    let Some(mounted) = Mounted::new() else {
        return;
    };
    let open = File::open(mounted.path(0)).expect("it opens");
    mounted.end();
    assert!(open.read_at(&mut [0], 0).is_err());
}
