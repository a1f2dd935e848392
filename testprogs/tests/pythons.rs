//! Python's own tests, with its main thread as a fiber: the same tests pass as without the shim.
//!
//! The list contains only tests that take seconds and use files, descriptors, readiness, signals or
//! processes. The complete test_io, test_os, test_socket, test_selectors, test_subprocess,
//! test_tempfile, test_mmap and test_threading also give the same results on io_uring, Linux AIO
//! and threads, in four minutes each, except for the VSOCK tests, which also hang without the shim.

use std::collections::BTreeSet;
use std::time::Duration;

use testprogs::{Run, Scratch, Tool, skip};

/// A module, and the patterns that select its tests; none selects all.
const MODULES: [(&str, &[&str]); 5] = [
    ("test_fileio", &[]),
    ("test_select", &[]),
    ("test_posix", &[]),
    (
        "test_signal",
        &[
            "WakeupFDTests",
            "*sigwait*",
            "*sigtimedwait*",
            "*pthread_kill*",
        ],
    ),
    (
        "test_subprocess",
        &["*send_signal*", "*shell*", "*preexec*", "*pipe*"],
    ),
];

/// Finds a Python whose tests are installed.
fn python() -> Option<Tool> {
    let has_tests = |tool: &Tool| {
        let run = Run::new(tool.path())
            .args(["-c", "import test.test_fileio"])
            .run();
        run.status.success()
    };
    let found = ["python3", "/usr/bin/python3"]
        .iter()
        .filter_map(|name| Tool::find(name))
        .find(has_tests);
    if found.is_none() {
        skip("Python's own tests are not installed");
    }
    found
}

/// Every test of a module with its result.
fn results(python: &Tool, module: &str, only: &[&str], fiber: bool) -> BTreeSet<String> {
    let dir = Scratch::new();
    let mut run = Run::new(python.path())
        .args(["-m", "test", "-v", module])
        .dir(dir.path())
        .hang_limit(Duration::from_secs(180));
    for pattern in only {
        run = run.args(["-m", pattern]);
    }
    if fiber {
        run = run.preload(true).env("AIOSHIM_MAIN", "fiber");
    }
    let outcome = run.run();
    let (text, errors) = (outcome.text(), outcome.error_text());
    let ends = ["ok", "FAIL", "ERROR"];
    // The test's own output may precede the result.
    let mut results = BTreeSet::new();
    for line in text.lines().chain(errors.lines()) {
        if let Some((name, result)) = line.split_once(" ... ")
            && ends.iter().any(|end| result.ends_with(end))
        {
            results.insert(format!(
                "{name} {}",
                result.rsplit(' ').next().unwrap_or_default()
            ));
        }
    }
    assert!(
        results.len() > 3,
        "hardly any test ran: {}",
        outcome.report()
    );
    results
}

#[test]
fn the_same_of_its_own_tests_pass() {
    let Some(python) = python() else { return };
    for (module, only) in MODULES {
        let plain = results(&python, module, only, false);
        let fiber = results(&python, module, only, true);
        let differences: Vec<&String> = plain.symmetric_difference(&fiber).collect();
        assert!(differences.is_empty(), "{module}: {differences:#?}");
        println!("{module}: {} tests", plain.len());
    }
}
