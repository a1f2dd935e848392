//! Other preloaded libraries, before and after the shim, keep their effect.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testprogs::{Flavor, Outcome, Run, Scratch, Tool, libraries, program, shared_object};

const ENGINES: [&str; 3] = ["uring", "aio", "threads"];

/// Both orders of `library` and the shim.
fn orders(library: &Path) -> [[PathBuf; 2]; 2] {
    let (library, shim) = (library.to_owned(), libraries().aioshim.clone());
    [[library.clone(), shim.clone()], [shim, library]]
}

fn preloaded(run: Run, libraries: &[PathBuf]) -> Run {
    libraries
        .iter()
        .fold(run, |run, library| run.preload_also(library))
}

#[test]
fn a_library_that_interposes_calls_keeps_its_effect() {
    let library = shared_object("environment/interposer", Flavor::Plain);
    let run = |arg: &str| {
        let dir = Scratch::new();
        let run = Run::new(program("environment/interposed", Flavor::Plain)).arg(arg);
        (run.dir(dir.path()).hang_limit(Duration::from_secs(20)), dir)
    };
    let (plain, _dir) = run("--threads");
    let expected = preloaded(plain, std::slice::from_ref(&library)).output();
    assert!(
        expected.contains("made up") && expected.contains("unreachable"),
        "{expected}"
    );
    for order in orders(&library) {
        for engine in ENGINES {
            for workers in ["-w1", "-w3"] {
                let (run, _dir) = run(workers);
                let outcome = preloaded(run, &order)
                    .env("AIOSHIM_ENGINE", engine)
                    .run()
                    .success();
                assert_eq!(outcome.text(), expected, "{}", outcome.report());
            }
            let (run, _dir) = run("--threads");
            let run = preloaded(run, &order)
                .env("AIOSHIM_ENGINE", engine)
                .env("AIOSHIM_MAIN", "fiber");
            assert_eq!(
                run.run().success().text(),
                expected,
                "the main thread as a fiber, {engine}"
            );
        }
    }
}

/// Runs a Python script with `library` and the shim in both orders, and with each engine.
fn python_beside(
    library: &str,
    variables: &[(&str, &str)],
    script: &str,
    check: impl Fn(&Outcome),
) {
    let (Some(library), Some(python)) = (Tool::system_library(library), Tool::find("python3"))
    else {
        return;
    };
    for order in orders(&library) {
        for engine in ENGINES {
            let dir = Scratch::new();
            let run = Run::new(python.path()).args(["-c", script]).dir(dir.path());
            let run = preloaded(run, &order)
                .env("AIOSHIM_MAIN", "fiber")
                .env("AIOSHIM_ENGINE", engine);
            let run = variables
                .iter()
                .fold(run, |run, (name, value)| run.env(*name, *value));
            check(&run.hang_limit(Duration::from_secs(20)).run().success());
        }
    }
}

#[test]
fn libfaketime_makes_the_time_up_and_waits_are_as_long_as_asked() {
    let script = "import time, select, threading
print(time.gmtime().tm_year); time.sleep(0.02); select.select([], [], [], 0.02)
print(threading.Event().wait(0.02), threading.Lock().acquire(timeout=0.02))
p = select.poll(); print(p.poll(20))";
    python_beside(
        "faketime/libfaketime.so.1",
        &[("FAKETIME", "2001-01-01 00:00:00")],
        script,
        |outcome| {
            assert_eq!(
                outcome.text(),
                "2001\nFalse True\n[]\n",
                "{}",
                outcome.report()
            )
        },
    );
}

#[test]
fn libeatmydata_leaves_synchronisation_out() {
    // The library reports success even for a descriptor that does not support fsync.
    let script = "import os
r, w = os.pipe(); os.fsync(r); os.fdatasync(w); print('left out')";
    python_beside("libeatmydata.so.1", &[], script, |outcome| {
        assert_eq!(outcome.text(), "left out\n", "{}", outcome.report());
    });
}

#[test]
fn torsocks_and_proxychains_see_every_connection() {
    // Each library fails a connection to this machine in its own way: by a rule, or because there
    // is no proxy.
    let script = "import socket
s = socket.socket(); l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
try: s.connect(l.getsockname()); print('connected')
except OSError as e: print(type(e).__name__)";
    let plain = |library: &str, variables: &[(&str, &str)]| {
        let (library, python) = (Tool::system_library(library)?, Tool::find("python3")?);
        let run = Run::new(python.path())
            .args(["-c", script])
            .preload_also(&library);
        Some(
            variables
                .iter()
                .fold(run, |run, (name, value)| run.env(*name, *value))
                .run(),
        )
    };
    let dir = Scratch::new();
    let proxies = dir.file(
        "proxychains.conf",
        "strict_chain\nquiet_mode\n[ProxyList]\nsocks5 127.0.0.1 1\n",
    );
    let conf = proxies.to_str().expect("UTF-8").to_owned();
    for (library, variables) in [
        (
            "torsocks/libtorsocks.so",
            vec![("TORSOCKS_TOR_PORT", "1"), ("TORSOCKS_LOG_LEVEL", "1")],
        ),
        (
            "libproxychains.so.4",
            vec![
                ("PROXYCHAINS_CONF_FILE", conf.as_str()),
                ("PROXYCHAINS_QUIET_MODE", "1"),
            ],
        ),
    ] {
        let Some(expected) = plain(library, &variables) else {
            return;
        };
        python_beside(library, &variables, script, |outcome| {
            assert_eq!(outcome.text(), expected.text(), "{}", outcome.report());
        });
    }
}
