//! State that the C and C++ runtimes keep per thread is per fiber.

use testprogs::{Flavor, Run, Scratch, cxx_program, program, shared_object, skip};

const ENGINES: [&str; 4] = ["uring", "aio", "threads", "sync"];

/// A fiber that waits in a catch block or a destructor still has its own exception afterwards,
/// whatever other fibers throw. A static variable is initialised once, and fibers that reach it in
/// the meantime wait. The locale set by uselocale belongs to the fiber. All of this holds with and
/// without the shim, and with a statically linked C++ library.
#[test]
fn exceptions_statics_and_locales_are_each_fibers_own() {
    let dir = Scratch::new();
    for how in [&[][..], &["-static-libstdc++", "-static-libgcc"]] {
        let Some(program) = cxx_program("runtime/thread_state", how, dir.path()) else {
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

/// The same on the fibers of a host that does not handle exceptions, with a C++ library that is
/// loaded late. Users are looked up there, too.
#[test]
fn fibers_of_another_host_have_their_own_exceptions_and_records() {
    let dir = Scratch::new();
    let Some(library) = cxx_program("runtime/catch_library", &["-shared", "-fPIC"], dir.path())
    else {
        return;
    };
    // Without an engine an empty pipe blocks the thread.
    for engine in &ENGINES[..3] {
        let run = Run::new(program("runtime/cxx_host", Flavor::Plain)).arg(&library);
        let outcome = run.preload(true).env("AIOSHIM_ENGINE", *engine).run();
        if outcome.status.code() == Some(77) {
            return skip("the shim is not preloaded");
        }
        assert_eq!(outcome.success().text(), "wrong: 0\n", "{engine}");
    }
}

/// The result of a look-up is still in place after the fiber has waited while others made the same
/// look-up.
#[test]
fn static_results_are_each_fibers_own() {
    for engine in ENGINES {
        for workers in [1, 3] {
            let run = Run::new(program("runtime/static_results", Flavor::Plain))
                .arg(format!("-w{workers}"));
            let text = run.preload(true).env("AIOSHIM_ENGINE", engine).output();
            assert_eq!(text, "wrong: 0\n", "{engine}, {workers}");
        }
    }
}

/// A library's constructor, called by dlopen, uses pool threads while its thread holds the loader's
/// lock.
#[test]
fn a_constructor_that_waits_in_dlopen_gets_on() {
    let library = shared_object("runtime/waiting_library", Flavor::Plain);
    let run = |args: &str| {
        Run::new(program("runtime/dlopen_waits", Flavor::Plain))
            .env("LIBRARY", &library)
            .arg(args)
    };
    let expected = run("--threads").output();
    assert!(expected.contains("let through"), "{expected}");
    if !expected.contains("converted 1") {
        return skip("libc cannot load its conversions from UTF-16");
    }
    for engine in &ENGINES[..3] {
        for workers in ["-w1", "-w3"] {
            let run = run(workers).preload(true).env("AIOSHIM_ENGINE", *engine);
            assert_eq!(run.output(), expected, "{engine}, {workers}");
        }
    }
}

/// A library's constructor, called by dlopen, waits for a thread that makes the first calls of some
/// names. Looking these up must not need the loader's lock, which the constructor's thread holds.
#[test]
fn a_thread_calls_names_for_the_first_time_while_dlopen_waits_for_it() {
    let library = shared_object("runtime/starting_library", Flavor::Plain);
    let run = |preload| {
        Run::new(program("runtime/dlopen_waits", Flavor::Plain))
            .env("LIBRARY", &library)
            .arg("--threads")
            .preload(preload)
            .output()
    };
    let expected = run(false);
    assert!(expected.contains("the thread read 4 bytes"), "{expected}");
    assert_eq!(run(true), expected);
}

/// If an exception, a jump or the end of the fiber leaves the callback of nftw, the pool thread
/// that executes the walk is released.
#[test]
fn a_call_back_that_is_left_leaves_no_thread_behind() {
    let dir = Scratch::new();
    let Some(program) = cxx_program("runtime/left_callbacks", &[], dir.path()) else {
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

/// A library that is opened late depends on libraries whose functions the shim could not find at
/// startup.
#[test]
fn a_plugin_reaches_functions_of_libraries_that_it_brings_along() {
    let library = shared_object("runtime/old_functions", Flavor::Plain);
    let run = |args: &str| {
        Run::new(program("runtime/dlopen_old", Flavor::Plain))
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
