//! What the C and C++ runtimes keep for a thread is each fiber's own.

use testprogs::{Flavor, Run, Scratch, cxx_program, program, shared_object, skip};

const ENGINES: [&str; 4] = ["uring", "aio", "threads", "sync"];

/// A fiber that waits in a catch block or a destructor has its own exception afterwards, whatever
/// others throw; a static is made once, and who comes meanwhile waits; the locale of uselocale is
/// the fiber's. Without the shim as with it, and where the C++ library is built in.
#[test]
fn exceptions_statics_and_locales_are_each_fibers_own() {
    let dir = Scratch::new();
    for how in [&[][..], &["-static-libstdc++", "-static-libgcc"]] {
        let Some(program) = cxx_program("runtime/kept", how, dir.path()) else {
            return;
        };
        let run = |workers: &str| Run::new(&program).arg(workers);
        let expected = run("0").output();
        assert!(expected.contains("wrong: 0"), "{expected}");
        assert_eq!(run("0").preload(true).output(), expected, "threads");
        for workers in ["1", "3"] {
            assert_eq!(
                run(workers).output(),
                expected,
                "without the shim, {workers}"
            );
            for engine in ENGINES {
                let run = run(workers).preload(true).env("AIOSHIM_ENGINE", engine);
                assert_eq!(run.output(), expected, "{engine}, {workers}");
            }
            let without_locks = run(workers).preload(true).env("AIOSHIM_LOCKS", "off");
            assert_eq!(
                without_locks.output(),
                expected,
                "locks are libc's, {workers}"
            );
        }
    }
}

/// The same on the fibers of a host that knows nothing of exceptions, from a C++ library that is
/// loaded late; and users that are looked up there.
#[test]
fn fibers_of_another_host_have_their_own_exceptions_and_records() {
    let dir = Scratch::new();
    let Some(library) = cxx_program("runtime/late", &["-shared", "-fPIC"], dir.path()) else {
        return;
    };
    // Without an engine a pipe that is empty blocks the thread.
    for engine in &ENGINES[..3] {
        let run = Run::new(program("runtime/host", Flavor::Plain)).arg(&library);
        let outcome = run.preload(true).env("AIOSHIM_ENGINE", *engine).run();
        if outcome.status.code() == Some(77) {
            return skip("the shim is not preloaded");
        }
        assert_eq!(outcome.success().text(), "wrong: 0\n", "{engine}");
    }
}

/// What a fiber has looked up, or been told, still stands there after it has waited while others
/// asked the same.
#[test]
fn static_results_are_each_fibers_own() {
    for engine in ENGINES {
        for workers in [1, 3] {
            let run =
                Run::new(program("runtime/results", Flavor::Plain)).arg(format!("-w{workers}"));
            let text = run.preload(true).env("AIOSHIM_ENGINE", engine).output();
            assert_eq!(text, "wrong: 0\n", "{engine}, {workers}");
        }
    }
}

/// A library's constructor that has threads of the pool at work, in dlopen, where its thread holds
/// the loader's lock.
#[test]
fn a_constructor_that_waits_in_dlopen_gets_on() {
    let library = shared_object("runtime/loaded", Flavor::Plain);
    let run = |args: &str| {
        Run::new(program("runtime/loading", Flavor::Plain))
            .env("LIBRARY", &library)
            .arg(args)
    };
    let expected = run("--threads").output();
    assert!(expected.contains("let through"), "{expected}");
    for engine in &ENGINES[..3] {
        for workers in ["-w1", "-w3"] {
            let run = run(workers).preload(true).env("AIOSHIM_ENGINE", *engine);
            assert_eq!(run.output(), expected, "{engine}, {workers}");
        }
    }
}

/// An exception, a jump or the end of the fiber leaves nftw's call-back: the thread of the pool
/// that walks is let go.
#[test]
fn a_call_back_that_is_left_leaves_no_thread_behind() {
    let dir = Scratch::new();
    let Some(program) = cxx_program("runtime/left", &[], dir.path()) else {
        return;
    };
    let run = |workers: &str| Run::new(&program).arg(workers);
    let expected = run("0").output();
    assert!(
        expected.starts_with("caught 16, jumped 8, walked\n"),
        "{expected}"
    );
    for workers in ["1", "3"] {
        for engine in ENGINES {
            let run = run(workers).preload(true).env("AIOSHIM_ENGINE", engine);
            assert_eq!(run.output(), expected, "{engine}, {workers}");
        }
    }
}

/// A library that is opened late brings libraries along whose functions the shim could not find
/// when it started.
#[test]
fn a_plugin_reaches_functions_of_libraries_that_it_brings_along() {
    let library = shared_object("runtime/plugin", Flavor::Plain);
    let run = |args: &str| {
        Run::new(program("runtime/plugins", Flavor::Plain))
            .env("LIBRARY", &library)
            .arg(args)
    };
    let expected = run("--threads").output();
    assert!(expected.contains("mq_receive: 5 text"), "{expected}");
    assert_eq!(run("--threads").preload(true).output(), expected, "threads");
    for engine in ENGINES {
        for workers in ["-w1", "-w3"] {
            let run = run(workers).preload(true).env("AIOSHIM_ENGINE", engine);
            assert_eq!(run.output(), expected, "{engine}, {workers}");
        }
    }
}
