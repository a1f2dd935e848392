//! Locks beyond the probes: C++'s library, preloaded allocators that lock inside malloc, locks in signal handlers.

use std::path::PathBuf;
use std::process::Command;

use testprogs::{Run, Scratch, c_sources, cxx_compiler, libraries, skip};

/// `c/locks/locks.cc`, compiled; None without a compiler.
fn cxx_program(dir: &Scratch) -> Option<PathBuf> {
    let compiler = cxx_compiler();
    if Command::new(&compiler).arg("--version").output().is_err() {
        skip(&format!("no compiler {}", compiler.display()));
        return None;
    }
    let libraries = libraries();
    let libdir = libraries.fiber.parent().expect("a directory");
    let program = dir.path().join("locks");
    let output = Command::new(&compiler)
        .args(["-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .args(libraries.include.iter().map(|dir| format!("-I{}", dir.display())))
        .arg(c_sources().join("locks/locks.cc"))
        .arg("-o")
        .arg(&program)
        .args([
            format!("-L{}", libdir.display()),
            format!("-Wl,-rpath,{}", libdir.display()),
        ])
        .arg("-lfiber")
        .output()
        .expect("the compiler runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

/// std::mutex and its kin, condition_variable, shared_mutex, atomics that wait; call_once, whose exceptions pass through the hook,
/// and whose callable is in variables of the thread; and a thread that is cancelled in a wait.
#[test]
fn cxx_locks_on_fibers_and_threads() {
    let dir = Scratch::new();
    let Some(program) = cxx_program(&dir) else { return };
    let expected = Run::new(&program).output();
    assert!(expected.contains("cancelled: 1"), "{expected}");
    assert_eq!(Run::new(&program).preload(true).output(), expected, "threads");
    for engine in ["uring", "aio", "threads", "sync"] {
        for workers in ["1", "3"] {
            let run = Run::new(&program).arg(workers).preload(true);
            assert_eq!(
                run.env("AIOSHIM_ENGINE", engine).output(),
                expected,
                "{engine}, {workers}"
            );
        }
    }
}
