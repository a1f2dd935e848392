//! The adapters in `hosts/`: each runs the conformance test, `hosts/conformance/conformance.c`, on
//! the coroutines of its scheduler, with and without the shim.
//!
//! An adapter whose packages are not installed is skipped.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use testprogs::{
    Launcher, Outcome, Refusal, Run, Scratch, Tool, libraries, skip, target_dir, workspace,
};

/// Checks whose coroutines do not wait for each other: they also end without the shim, and must
/// then print the same.
const CHECKS: [&str; 10] = [
    "reads", "sleeps", "files", "names", "sockets", "locks", "children", "forks", "errors",
    "values",
];
const ENGINES: [&str; 3] = ["uring", "aio", "threads"];

const COROUTINES: usize = 64;
const READS: usize = COROUTINES * 100;

/// One folder of `hosts/`.
struct Adapter {
    folder: &'static str,
    /// How the statistics name the library.
    library: &'static str,
    /// The Debian packages that it needs, with a file of each.
    packages: &'static [(&'static str, &'static str)],
    /// It is a crate outside of the workspace, whose dependencies must have been downloaded.
    is_crate: bool,
    /// Its library to preload before libaioshim.so.
    preload: Option<&'static str>,
    /// The interpreter and the script that run the test; otherwise the program does.
    script: Option<[&'static str; 2]>,
    program: &'static str,
    /// The adapter that builds the same folder.
    built_with: Option<&'static Adapter>,
    /// Words of the command line of make.
    make: &'static [&'static str],
    /// Its language has exceptions, and its driver a body for them.
    has_exceptions: bool,
    /// Checks of functions that not every scheduler has.
    also: &'static [&'static str],
    /// The message of a deadlock, and whether the process aborts then.
    deadlock: (&'static str, bool),
    built: OnceLock<Option<PathBuf>>,
}

impl Adapter {
    const fn new(folder: &'static str, library: &'static str) -> Self {
        Self {
            folder,
            library,
            packages: &[],
            is_crate: false,
            preload: None,
            script: None,
            program: "conformance",
            built_with: None,
            make: &[],
            has_exceptions: false,
            also: &[],
            deadlock: (": deadlock: ", true),
            built: OnceLock::new(),
        }
    }

    const fn needs(mut self, packages: &'static [(&'static str, &'static str)]) -> Self {
        self.packages = packages;
        self
    }

    const fn a_crate(mut self) -> Self {
        self.is_crate = true;
        self
    }

    const fn preloads(mut self, library: &'static str) -> Self {
        self.preload = Some(library);
        self
    }

    const fn interpreted(mut self, interpreter: &'static str, script: &'static str) -> Self {
        self.script = Some([interpreter, script]);
        self
    }

    const fn of_the_build(mut self, other: &'static Adapter, program: &'static str) -> Self {
        self.built_with = Some(other);
        self.program = program;
        self
    }

    const fn made_with(mut self, words: &'static [&'static str]) -> Self {
        self.make = words;
        self
    }

    const fn with_exceptions(mut self) -> Self {
        self.has_exceptions = true;
        self
    }

    const fn also(mut self, checks: &'static [&'static str]) -> Self {
        self.also = checks;
        self
    }

    const fn raises_at_a_deadlock(mut self, message: &'static str) -> Self {
        self.deadlock = (message, false);
        self
    }

    fn source(&self) -> PathBuf {
        workspace().join("hosts").join(self.folder)
    }

    fn crates_are_here(&self) -> bool {
        let fetch = Command::new("cargo")
            .args(["fetch", "--quiet", "--locked", "--offline"])
            .current_dir(self.source())
            .output();
        fetch.is_ok_and(|output| output.status.success())
    }

    /// Builds the adapter, once per process, and returns the directory of the results; None if its
    /// package is not installed.
    fn build(&self) -> Option<&Path> {
        if let Some(other) = self.built_with {
            return other.build();
        }
        let built = self.built.get_or_init(|| {
            for (package, file) in self.packages {
                if !Path::new(file).exists() {
                    skip(&format!("{package} is not installed"));
                    return None;
                }
            }
            if self.is_crate && !self.crates_are_here() {
                let folder = self.folder;
                skip(&format!(
                    "the crates of hosts/{folder} are not here: run cargo fetch in that folder"
                ));
                return None;
            }
            Tool::find("make")?;
            if let Some([interpreter, _]) = self.script {
                Tool::find(interpreter)?;
            }
            let include = libraries().include[1].clone();
            let out = target_dir().join("testprogs/hosts").join(self.folder);
            let output = Command::new("make")
                .arg("--always-make")
                .arg(format!("OUT={}", out.display()))
                .arg(format!("INCLUDE={}", include.display()))
                .arg("CFLAGS=-O2 -g -Wall -Wextra -Werror")
                .arg("CXXFLAGS=-O1 -g -Wall -Wextra -Werror")
                .args(self.make)
                .current_dir(self.source())
                .output()
                .expect("make runs");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {errors}", self.folder);
            Some(out)
        });
        built.as_deref()
    }

    /// A run of one check in `dir`. With `shim`, the coroutines must overlap.
    fn check(&self, out: &Path, check: &str, dir: &Scratch, shim: bool) -> Run {
        let run = match self.script {
            None => Run::new(out.join(self.program)),
            Some([interpreter, script]) => Run::new(interpreter)
                .arg(self.source().join(script))
                .env("LUA_CPATH", out.join("?.so"))
                .env("PYTHONPATH", out)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("RUBYLIB", out)
                .env("PERL5LIB", out)
                .env("PHP_INI_SCAN_DIR", format!(":{}", out.display())),
        };
        let run = run.arg(check).arg(dir.path());
        if !shim {
            return run;
        }
        let run = match self.preload {
            Some(library) => run.preload_also(&out.join(library)),
            None => run,
        };
        run.preload(true).env("AIOSHIM_CHECK", "1").arg("overlap")
    }
}

static TEMPLATE: Adapter = Adapter::new("template", "template");
/// Its switch on processors for which `stacks.h` has no other.
static TEMPLATE_UCONTEXT: Adapter =
    Adapter::new("template", "template").of_the_build(&TEMPLATE, "ucontext");
static LUA: Adapter = Adapter::new("lua", "Lua")
    .needs(&[("liblua5.4-dev", "/usr/include/lua5.4/lua.h")])
    .interpreted("lua5.4", "conformance.lua")
    .with_exceptions();
static STATE_THREADS: Adapter = Adapter::new("state-threads", "State Threads")
    .needs(&[("libst-dev", "/usr/include/st.h")])
    .preloads("libaioshim_st.so")
    .also(&["timers"]);
static PTH: Adapter = Adapter::new("pth", "GNU Pth")
    .needs(&[("libpth-dev", "/usr/include/pth.h")])
    .preloads("libaioshim_pth.so")
    .also(&["timers", "cancel"]);
static BOOST_FIBER: Adapter = Adapter::new("boost-fiber", "Boost.Fiber")
    .needs(&[("libboost-fiber-dev", "/usr/include/boost/fiber/all.hpp")])
    .with_exceptions()
    .also(&["timers"]);
/// The same test without the header.
static BOOST_FIBER_PRELOAD: Adapter = Adapter::new("boost-fiber", "Boost.Fiber")
    .of_the_build(&BOOST_FIBER, "plain")
    .preloads("libaioshim_boost_fiber.so")
    .with_exceptions()
    .also(&["timers"]);
static GREENLET: Adapter = Adapter::new("greenlet", "gevent")
    .needs(&[
        (
            "python3-gevent",
            "/usr/lib/python3/dist-packages/gevent/__init__.py",
        ),
        ("python3-dev", "/usr/bin/python3-config"),
    ])
    .made_with(&["PYTHON=/usr/bin/python3"])
    .interpreted("/usr/bin/python3", "conformance.py")
    .preloads("libaioshim_greenlet.so")
    .with_exceptions()
    .also(&["timers", "cancel"])
    .raises_at_a_deadlock("LoopExit: This operation would block forever");

static RUBY: Adapter = Adapter::new("ruby", "Ruby")
    .needs(&[("ruby-dev", "/usr/lib/x86_64-linux-gnu/pkgconfig/ruby.pc")])
    .interpreted("/usr/bin/ruby", "conformance.rb")
    .preloads("libaioshim_ruby.so")
    .with_exceptions()
    .also(&["timers", "cancel"])
    .raises_at_a_deadlock(": deadlock: ");

static PERL: Adapter = Adapter::new("perl", "Coro")
    .needs(&[("libcoro-perl", "/usr/share/doc/libcoro-perl")])
    .interpreted("/usr/bin/perl", "conformance.pl")
    .with_exceptions()
    .also(&["timers"]);
static PHP: Adapter = Adapter::new("php", "PHP")
    .needs(&[
        ("php-dev", "/usr/bin/php-config"),
        ("php-cli", "/usr/bin/php"),
    ])
    .interpreted("/usr/bin/php", "conformance.php")
    .preloads("libaioshim_php.so")
    .with_exceptions();

/// Its timer thread hides deadlocks.
static MAY: Adapter = Adapter::new("may", "may")
    .a_crate()
    .made_with(&["CARGO=cargo --offline"])
    .with_exceptions()
    .also(&["timers"]);

/// Runs `check` with the shim as `how` says, and returns what it printed.
#[track_caller]
fn with_shim(adapter: &Adapter, out: &Path, check: &str, how: impl FnOnce(Run) -> Run) -> Outcome {
    let dir = Scratch::new();
    let run = adapter.check(out, check, &dir, true);
    how(run).run().success()
}

/// Every check prints the same without the shim, on each engine, and where io_uring is refused.
#[track_caller]
fn results_are_equal(adapter: &Adapter) {
    let Some(out) = adapter.build() else { return };
    let exceptions = adapter.has_exceptions.then_some("exceptions");
    for check in CHECKS.into_iter().chain(exceptions) {
        let dir = Scratch::new();
        let plain = adapter.check(out, check, &dir, false).run().success();
        let same = |outcome: Outcome| {
            assert_eq!(outcome.text(), plain.text(), "{}", outcome.report());
            let all_asleep = outcome.error_text().contains("100 at once");
            assert!(check != "sleeps" || all_asleep, "{}", outcome.report());
        };
        for engine in ENGINES {
            same(with_shim(adapter, out, check, |run| {
                run.env("AIOSHIM_ENGINE", engine)
            }));
        }
        // io_uring; io_uring and Linux AIO.
        for refusal in [&Refusal::ALL[0], &Refusal::ALL[9]] {
            let Some(launcher) = refusal.launcher() else {
                return;
            };
            same(with_shim(adapter, out, check, |run| run.under(launcher)));
        }
    }
}

/// All coroutines that wait for each other through pipes and a condition variable continue, and so
/// do those that wait for timers of the library; a cancelled one ends.
#[track_caller]
fn coroutines_wait_for_each_other(adapter: &Adapter) {
    let Some(out) = adapter.build() else { return };
    for check in ["pairs"].iter().chain(adapter.also) {
        for engine in ENGINES {
            let outcome = with_shim(adapter, out, check, |run| run.env("AIOSHIM_ENGINE", engine));
            let ended = outcome.text().starts_with(check);
            assert!(ended, "{}", outcome.report());
        }
    }
}

/// The process ends when all threads have, with the same results, as it does without the shim.
fn the_main_thread_waits_for_all_others_in_pth_exit(adapter: &Adapter) {
    let Some(out) = adapter.build() else { return };
    for check in ["sleeps", "reads", "names", "locks"] {
        let dir = Scratch::new();
        let exiting = |run: Run| run.env("PTH_EXIT", "1");
        let plain = exiting(adapter.check(out, check, &dir, false))
            .run()
            .success();
        assert!(plain.text().starts_with(check), "{}", plain.report());
        for engine in ENGINES {
            let outcome = with_shim(adapter, out, check, |run| {
                exiting(run).env("AIOSHIM_ENGINE", engine)
            });
            assert_eq!(outcome.text(), plain.text(), "{}", outcome.report());
        }
    }
}

/// strace sees no read of the data, except those that the last coroutine may make itself, and far
/// fewer submissions than reads.
#[track_caller]
fn reads_overlap(adapter: &Adapter) {
    let Some(out) = adapter.build() else { return };
    let Some(strace) = Tool::strace() else { return };
    let dir = Scratch::new();
    let (log, said) = (dir.join("log"), dir.join("said"));
    let launcher = Launcher::new(strace.path())
        .arg("-f")
        .arg("-e")
        .arg("trace=pread64,io_uring_enter")
        .arg("-o")
        .arg(&log);
    let outcome = adapter
        .check(out, "reads", &dir, true)
        .env("AIOSHIM_ENGINE", "uring")
        .env("AIOSHIM_STATS", "json")
        .env("AIOSHIM_OUT", &said)
        .under(launcher)
        .run()
        .success();
    let log = std::fs::read_to_string(log).expect("what strace wrote");
    let count = |what: &dyn Fn(&str) -> bool| log.lines().filter(|line| what(line)).count();
    let blocking = count(&|line| line.contains("pread64") && line.contains(", 4096, "));
    let stats = statistics(&said);
    host_is_named(adapter, &stats);
    let alone = passed_through_alone(&stats);
    assert_eq!(blocking, alone, "{}", outcome.report());
    assert!(alone < READS / COROUTINES, "{alone} by the last coroutine");
    let enters = count(&|line| line.contains("io_uring_enter("));
    assert!((1..READS / 4).contains(&enters), "{enters} io_uring_enter");
}

/// The statistics in the file `said`.
fn statistics(said: &Path) -> Value {
    let said = std::fs::read_to_string(said).expect("statistics");
    serde_json::from_str(said.trim()).expect("statistics in JSON")
}

/// The statistics name the library, and count its coroutines if the adapter does.
#[track_caller]
fn host_is_named(adapter: &Adapter, stats: &Value) {
    let name = stats["hosts"][0].as_str().unwrap_or_default();
    assert!(name.starts_with(adapter.library), "{stats}");
    let count = |of: &str| stats["fibers"][of].as_u64();
    if let Some(started) = count("started") {
        assert!(started >= COROUTINES as u64, "{stats}");
        assert!(count("ended") <= Some(started), "{stats}");
    }
}

/// How many pread calls the last coroutine made itself.
fn passed_through_alone(stats: &Value) -> usize {
    let calls = stats["calls"].as_object().expect("a table of calls");
    let reads = calls.iter().filter(|(name, _)| name.contains("pread"));
    let alone = reads.filter_map(|(_, of)| of["through"]["alone"].as_u64());
    alone.sum::<u64>() as usize
}

/// Two coroutines that wait for each other's mutex end the process with a message.
#[track_caller]
fn a_deadlock_is_reported(adapter: &Adapter) {
    let Some(out) = adapter.build() else { return };
    let dir = Scratch::new();
    let outcome = adapter.check(out, "deadlock", &dir, true).run();
    let (message, aborts) = adapter.deadlock;
    let reported = outcome.error_text().contains(message);
    assert!(reported, "{}", outcome.report());
    let ended = match aborts {
        true => outcome.status.signal() == Some(6),
        false => outcome.status.code() == Some(1),
    };
    assert!(ended, "{}", outcome.report());
}

/// A fatal error of PHP, which frees what its fibers use, waits for the calls that they are in.
#[test]
fn no_call_outlives_a_php_request() {
    let Some(out) = PHP.build() else { return };
    for engine in ENGINES {
        let outcome = Run::new("/usr/bin/php")
            .arg(PHP.source().join("fatal.php"))
            .env("PHP_INI_SCAN_DIR", format!(":{}", out.display()))
            .env("AIOSHIM_ENGINE", engine)
            .preload_also(&out.join("libaioshim_php.so"))
            .preload(true)
            .run();
        let says = |text| outcome.text().contains(text) || outcome.error_text().contains(text);
        assert!(says("the end of the request"), "{}", outcome.report());
        assert_eq!(outcome.status.code(), Some(255), "{}", outcome.report());
    }
}

/// Makes the tests of one adapter.
macro_rules! conforms {
    ($module:ident, $adapter:ident, $($test:ident),*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test(&super::$adapter);
                }
            )*
        }
    };
    ($module:ident, $adapter:ident) => {
        conforms!(
            $module,
            $adapter,
            results_are_equal,
            coroutines_wait_for_each_other,
            reads_overlap,
            a_deadlock_is_reported
        );
    };
}

conforms!(template, TEMPLATE);
conforms!(
    template_ucontext,
    TEMPLATE_UCONTEXT,
    results_are_equal,
    coroutines_wait_for_each_other
);
conforms!(lua, LUA);
conforms!(state_threads, STATE_THREADS);
conforms!(
    pth,
    PTH,
    results_are_equal,
    coroutines_wait_for_each_other,
    reads_overlap,
    a_deadlock_is_reported,
    the_main_thread_waits_for_all_others_in_pth_exit
);
conforms!(boost_fiber, BOOST_FIBER);
conforms!(boost_fiber_preload, BOOST_FIBER_PRELOAD);
conforms!(greenlet, GREENLET);
conforms!(ruby, RUBY);
conforms!(perl, PERL);
conforms!(php, PHP);
conforms!(
    may,
    MAY,
    results_are_equal,
    coroutines_wait_for_each_other,
    reads_overlap
);
