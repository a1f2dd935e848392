//! The libraries can be built, and work, on the oldest supported glibc and on the newest one in a
//! Debian release. Each release gets its own root directory, in which cargo builds the libraries
//! and runs some of the tests in this directory.
//!
//! A library does not run with an older glibc than it was built with, because the linker binds it
//! to versioned libc symbols.

use std::ffi::OsString;

use testprogs::Distribution;

/// Tests whose programs call functions that differ between releases of glibc, by name and source
/// file. The tests that are left out use the same paths through libc as one of these.
const TESTS: &[(&str, &[&str])] = &[
    (
        "edges",
        &[
            // Before 2.33, stat and related functions are linked into the program and call __xstat.
            "file::old_stat",
            "file::paths",
            "file::directories",
            "file::proc_maps",
            // Functions that are in libpthread, libdl, librt and libresolv before 2.34.
            "sync::locks",
            "sync::lock_results",
            "sync::shared_locks",
            "sync::message_queues",
            "socket::resolver",
            "every::cancel",
            "process::exit",
            // Functions and constants that only later releases have: closefrom, close_range, _Fork,
            // P_PIDFD.
            "file::close_during_read",
            "file::close_by_thread",
            "process::clone",
            "process::wait",
            "process::fork",
            "process::fork_from_threads",
            "process::exec",
            // The layout of FILE, and the functions that stdio calls internally.
            "stdio::streams",
            "stdio::lines",
            // The rest of the table, in as few runs as possible.
            "file::transfer_limits",
            "file::transfer_errors",
            "task::errno",
            "socket::send_receive",
            "socket::messages",
            "signal::sigwait",
            "time::clock_namespace",
            "every::bad_pointers",
        ],
    ),
    (
        "runtime",
        &[
            "static_results_are_each_fibers_own",
            "a_plugin_reaches_functions_of_libraries_that_it_brings_along",
        ],
    ),
    (
        "table",
        &["every_name_of_a_converted_call_in_this_libc_is_hooked"],
    ),
];

/// Programs of the release itself, most of which are not linked to libpthread. Each line prints
/// something.
const SCRIPT: &str = "ls /etc; sort /etc/passwd | head -n 3; find /var -name status; grep -c root \
    /etc/group
    perl -e 'print join(q( ), map { $_ * $_ } 1..9), qq(\\n); system(q(echo from a shell))'
    gcc --version | head -n 1; dpkg --get-selections | wc -l; date +%Z; tar -cf - /etc/skel \
    2>/dev/null | wc -c";

fn libraries_work_on(suite: &str) {
    let Some(distribution) = Distribution::debian(suite) else {
        return;
    };
    distribution
        .cargo(&["build", "--frozen", "-p", "fiber", "-p", "aioshim"])
        .success();
    programs_do_not_notice(&distribution);
    tests_pass(&distribution);
}

/// The release's own programs print the same with the shim preloaded, and with the main thread as a
/// fiber.
fn programs_do_not_notice(distribution: &Distribution) {
    let words = ["sh", "-c", SCRIPT].map(OsString::from);
    let expected = distribution.run(&[], words.clone()).success().text();
    let shim = distribution.libdir().join("libaioshim.so");
    let shim = shim.to_str().expect("a path in ASCII");
    for engine in ["uring", "aio", "threads"] {
        for main in ["", "fiber"] {
            let variables = [
                ("LD_PRELOAD", shim),
                ("AIOSHIM_ENGINE", engine),
                ("AIOSHIM_MAIN", main),
            ];
            let variables = if main.is_empty() {
                &variables[..2]
            } else {
                &variables
            };
            let outcome = distribution.run(variables, words.clone()).success();
            let found = (outcome.text(), outcome.error_text());
            assert_eq!(
                found,
                (expected.clone(), String::new()),
                "{engine}, main: {main:?}"
            );
        }
    }
}

/// All tests listed above pass in the root directory.
fn tests_pass(distribution: &Distribution) {
    let mut args = vec!["test", "--frozen", "--no-fail-fast", "-p", "testprogs"];
    args.extend(TESTS.iter().flat_map(|(file, _)| ["--test", file]));
    args.extend(["--", "--show-output", "--exact"]);
    args.extend(TESTS.iter().flat_map(|(_, names)| *names));
    let outcome = distribution.cargo(&args).success();
    let text = outcome.text();
    // The skip lines of the tests.
    for line in text.lines().filter(|line| line.starts_with("skip: ")) {
        eprintln!("{line}");
    }
    for name in TESTS.iter().flat_map(|(_, names)| *names) {
        let passed = format!("test {name} ... ok");
        assert!(
            text.lines().any(|line| line == passed),
            "no test {name}: {}",
            outcome.report()
        );
    }
}

/// glibc 2.31: libpthread, libdl, librt and libresolv are separate libraries.
#[test]
fn debian_11() {
    libraries_work_on("bullseye");
}

/// glibc 2.41.
#[test]
fn debian_13() {
    libraries_work_on("trixie");
}
