//! Tests the library from C: each file in `c/` is compiled against fiber.h, linked with libfiber.so
//! and run, on one worker and on three where that makes a difference.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory of this test, where cargo also put the shared library.
fn libraries() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

/// Compiles `c/<name>.c`.
fn compile(name: &str, how: &[&str]) -> PathBuf {
    let to = libraries().join(format!("c-{name}-{}", how.len()));
    let out = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
        .args([
            "-std=gnu11",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-infinite-recursion",
            "-rdynamic",
        ])
        .arg("-I")
        .arg(here().join("include"))
        .arg(here().join("tests/c").join(format!("{name}.c")))
        .arg("-o")
        .arg(&to)
        .args(how)
        .output()
        .expect("a C compiler");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    to
}

fn shared(name: &str) -> PathBuf {
    let dir = libraries();
    let dir = dir.to_str().unwrap();
    compile(
        name,
        &[
            "-L",
            dir,
            "-lfiber",
            "-pthread",
            &format!("-Wl,-rpath,{dir}"),
        ],
    )
}

/// Longer, in seconds, than any program takes. It guards against a hang and measures nothing.
const HANG_LIMIT: &str = "120";

fn run(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let out = Command::new("timeout")
        .args(["--kill-after=5", HANG_LIMIT])
        .arg(program)
        .args(args)
        // Cargo sets it to a directory that may contain an older build of the library, which would
        // be found before the one we asked for.
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("FIBER_WORKERS")
        .env_remove("FIBER_STACK")
        .envs(env.iter().copied())
        .output()
        .unwrap();
    // 124 is the exit code of timeout if it ended the program. If it needed SIGKILL for that, it
    // dies of SIGKILL too.
    let hangs = out.status.code() == Some(124) || out.status.signal() == Some(libc::SIGKILL);
    assert!(
        !hangs,
        "{env:?}: {} {args:?} hangs (no end after {HANG_LIMIT} s)\n{}{}",
        program.display(),
        text(&out.stdout),
        text(&out.stderr)
    );
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn passes(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let out = run(program, args, env);
    assert!(
        out.status.success(),
        "{env:?}: {}\n{}{}",
        out.status,
        text(&out.stdout),
        text(&out.stderr)
    );
    out
}

fn passes_everywhere(name: &str) {
    let program = shared(name);
    for workers in ["1", "3"] {
        passes(&program, &[], &[("FIBER_WORKERS", workers)]);
    }
}

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { passes_everywhere(stringify!($name)); })*
    };
}

programs! { errors, exit, waves, host, destroy, cancel }

#[test]
fn keys() {
    // The number of remaining keys is the same for every worker count. The destructors count
    // without atomics, so use one worker.
    passes(&shared("keys"), &[], &[("FIBER_WORKERS", "1")]);
}

#[test]
fn the_static_library_does_the_same() {
    let lib = libraries().join("libfiber.a");
    let program = compile(
        "errors",
        &[lib.to_str().unwrap(), "-pthread", "-ldl", "-lm"],
    );
    passes(&program, &[], &[("FIBER_WORKERS", "2")]);
}

#[test]
fn a_hundred_thousand_parked_fibers_take_five_kilobytes_each() {
    let program = shared("many");
    for workers in ["1", "3"] {
        passes(&program, &["100000"], &[("FIBER_WORKERS", workers)]);
    }
}

/// The child of the fork does the counting in `fork.c`. With three workers, the first fiber still
/// runs on the calling thread.
#[test]
fn fork() {
    passes_everywhere("fork");
}

#[test]
fn pthread_exit_ends_the_fiber_and_exit_the_process() {
    passes_everywhere("leave");
    let program = shared("leave");
    for workers in ["1", "3"] {
        let out = run(&program, &["exit"], &[("FIBER_WORKERS", workers)]);
        assert_eq!(out.status.code(), Some(7), "{}", text(&out.stderr));
        assert_eq!(text(&out.stdout), "exit handler\n");
    }
}

#[test]
fn a_frame_larger_than_the_stack_reaches_no_other_fibers() {
    passes_everywhere("largeframe");
}

#[test]
fn an_overflow_names_the_fiber_and_kills_the_process() {
    let program = shared("overflow");
    let out = run(&program, &[], &[("FIBER_STACK", "64K")]);
    let err = text(&out.stderr);
    assert!(
        err.contains(
            "stack overflow in fiber 2 \"digger\": its stack of 64 KiB is full; set \
            FIBER_STACK=128K"
        ),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(died_of(&out, libc::SIGSEGV), "{}", out.status);
    let out = run(&program, &["wild"], &[]);
    assert_eq!(text(&out.stderr), "", "no overflow");
    assert!(died_of(&out, libc::SIGSEGV), "{}", out.status);
}

/// `timeout` either dies of the same signal as its child, or exits with 128 + n.
fn died_of(out: &Output, signal: i32) -> bool {
    out.status.signal() == Some(signal) || out.status.code() == Some(128 + signal)
}

#[test]
fn a_deadlock_is_reported_and_aborts() {
    let program = shared("deadlock");
    for workers in ["1", "3"] {
        let env = [("FIBER_WORKERS", workers)];
        let out = run(&program, &[], &env);
        let err = text(&out.stderr);
        assert!(died_of(&out, libc::SIGABRT), "{}: {err}", out.status);
        assert!(
            err.starts_with("fiber: deadlock: 7 fibers wait, and nothing can wake any of them\n"),
            "{err}"
        );
        assert_eq!(err.lines().count(), 8, "{err}");
        for what in [
            "fiber 1, worker 0: waits for fiber 7 to end",
            "waits for mutex 0x",
            "waits for condition variable 0x",
            "waits for read-write lock to read 0x",
            "waits for barrier 0x",
            "fiber 7 \"last\", worker ",
            "waits for semaphore 0x",
        ] {
            assert!(err.contains(what), "{what}: {err}");
        }
        let err = text(&run(&program, &["many"], &env).stderr);
        assert_eq!(err.lines().count(), 102, "{err}");
        assert!(err.ends_with("fiber: and 107 more\n"), "{err}");
        // If a plain thread may still post, there is no deadlock.
        passes(&program, &["post"], &env);
    }
}

#[test]
fn dump_says_what_each_waits_for() {
    let out = text(&passes(&shared("dump"), &[], &[]).stdout);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 5, "{out}");
    for what in [
        "fiber 1, worker 0: running",
        "fiber 2 \"waiter\", worker 0: waits for semaphore 0x",
        "fiber 3, worker 0: waits for mutex 0x",
        "fiber 4, worker 0: asleep",
        "fiber 5: not started",
    ] {
        assert!(lines.iter().any(|l| l.starts_with(what)), "{what}: {out}");
    }
    assert!(out.contains(", held by fiber 1"), "{out}");
}

#[test]
fn a_bad_option_is_one_line_on_stderr() {
    let program = shared("exit");
    for (name, value, line) in [
        (
            "FIBER_STACK",
            "lots",
            "fiber: FIBER_STACK=lots: expected a number of bytes, optionally with K or M, from 16K \
            to 1024M; using 256K\n",
        ),
        (
            "FIBER_WORKERS",
            "0",
            "fiber: FIBER_WORKERS=0: expected a number from 1 to 1024; using 1\n",
        ),
    ] {
        assert_eq!(text(&passes(&program, &[], &[(name, value)]).stderr), line);
    }
    assert_eq!(
        text(&passes(&program, &[], &[("FIBER_STACK", "1M")]).stderr),
        ""
    );
}
