//! Repeatedly creating and ending the same objects does not make the libraries use more memory,
//! descriptors or mappings, on any engine.

use testprogs::{Flavor, Run, Scratch, program};

#[track_caller]
fn is_flat(describe: impl Fn(Run) -> Run) {
    for workers in ["-w1", "-w3"] {
        let dir = Scratch::new();
        let run = describe(
            Run::new(program("resources/leaks", Flavor::Plain))
                .arg(workers)
                .dir(dir.path()),
        );
        let outcome = run.run().success();
        assert_eq!(outcome.text(), "flat\n", "{}", outcome.report());
    }
}

#[test]
fn libfiber_alone() {
    is_flat(|run| run);
}

#[test]
fn each_engine() {
    for engine in ["uring", "aio", "threads"] {
        is_flat(|run| run.preload(true).env("AIOSHIM_ENGINE", engine));
    }
}

#[test]
fn with_everything_counted() {
    let dir = Scratch::new();
    is_flat(|run| {
        run.preload(true)
            .env("AIOSHIM_STATS", "json")
            .env("AIOSHIM_ESCAPES", "1")
            .env("AIOSHIM_OUT", dir.join("report"))
    });
}
