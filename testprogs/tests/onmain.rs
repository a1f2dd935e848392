//! Runs the probes of signals, times and bad pointers with the main thread as the fiber
//! (`AIOSHIM_MAIN=fiber`), which uses a host other than libfiber. The output must be the same as in
//! a plain program, on every engine.

use testprogs::{Flavor, Outcome, Run, Scratch, program};

const ENGINES: [&str; 3] = ["uring", "aio", "threads"];

fn probe(name: &str, engine: Option<&str>) -> Outcome {
    let dir = Scratch::new();
    let run = Run::new(program(name, Flavor::Plain))
        .arg("--threads")
        .dir(dir.path());
    match engine {
        Some(engine) => run
            .preload(true)
            .env("AIOSHIM_MAIN", "fiber")
            .env("AIOSHIM_ENGINE", engine)
            .run(),
        None => run.run(),
    }
}

#[track_caller]
fn same(name: &str) {
    let expected = probe(name, None);
    if expected.status.code() == Some(77) {
        testprogs::skip(&format!("{name}: {}", expected.error_text()));
        return;
    }
    for engine in ENGINES {
        let outcome = probe(name, Some(engine));
        let same = (outcome.text(), outcome.status) == (expected.text(), expected.status);
        assert!(
            same,
            "plain: {}\n\n{engine}: {}",
            expected.report(),
            outcome.report()
        );
    }
}

macro_rules! probes {
    ($($family:ident { $($name:ident;)* })*) => {$(
        mod $family {$(
            #[test]
            fn $name() {
                super::same(concat!(stringify!($family), "/", stringify!($name)));
            }
        )*}
    )*};
}

probes! {
    signal {
        many_signals;
        event_first;
        sigwait;
        last_signals;
        masks;
    }
    time {
        clock_namespace;
    }
    every {
        bad_pointers;
    }
}
