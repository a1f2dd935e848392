//! No call that can block a thread blocks a fiber's thread. For each symbol of the hook table that
//! can wait, 50 fibers of one worker call it at the same time, and all of them must reach the call
//! before the first one may complete.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use testprogs::{Flavor, How, Outcome, Run, Scratch, program};

/// A call that blocks its OS thread makes the test hang; nothing else takes long.
const HANG: Duration = Duration::from_secs(60);

/// The program's exit status for functions that glibc has no longer offered to new programs since
/// 2.34.
const NOT_HERE: i32 = 77;

fn run(args: &[&str], flavor: Flavor, engine: Option<&str>) -> Outcome {
    let dir = Scratch::new();
    let run = Run::new(program("blocking/blocking", flavor))
        .args(args.iter().copied())
        .dir(dir.path())
        .hang_limit(HANG);
    match engine {
        Some(engine) => run.preload(true).env("AIOSHIM_ENGINE", engine).run(),
        None => run.run(),
    }
}

/// The symbols for which the program has a case.
fn cases() -> Vec<String> {
    let list = run(&["--list"], Flavor::Plain, None).success().text();
    list.lines().map(str::to_owned).collect()
}

/// Runs `one` for each of `symbols`, several at a time, and fails with the reports of the ones that
/// went wrong.
fn each(symbols: &[String], one: impl Fn(&str) -> Outcome + Sync) {
    let left = Mutex::new(symbols.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(symbol) = left.lock().unwrap().next() else {
                        return;
                    };
                    let outcome = one(symbol);
                    if outcome.status.code() == Some(NOT_HERE)
                        && outcome.error_text().contains("seccomp")
                    {
                        testprogs::skip(&outcome.error_text());
                    } else if !matches!(outcome.status.code(), Some(0 | NOT_HERE)) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{symbol}: {}", outcome.report()));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        symbols.len(),
        wrong.join("\n")
    );
}

/// Rows that can wait but have no case, with the reason.
const WITHOUT: &[(&str, &[&str])] = &[
    (
        "they try, yield or check, and wait only for callers that are about to continue",
        &[
            "pthread_mutex_trylock",
            "__pthread_mutex_trylock",
            "pthread_rwlock_tryrdlock",
            "__pthread_rwlock_tryrdlock",
            "pthread_rwlock_trywrlock",
            "__pthread_rwlock_trywrlock",
            "pthread_spin_trylock",
            "sem_trywait",
            "mtx_trylock",
            "sched_yield",
            "__sched_yield",
            "pthread_yield",
            "thrd_yield",
            "pthread_barrier_destroy",
        ],
    ),
    (
        "they wait for calls at the same position, or for a file system that writes back on close",
        &[
            "close", "__close", "closedir", "lseek", "lseek64", "__lseek",
        ],
    ),
    (
        "they close files that were opened before",
        &[
            "endhostent",
            "endnetent",
            "endprotoent",
            "endservent",
            "endpwent",
            "endgrent",
            "endspent",
            "endrpcent",
            "endaliasent",
            "endsgent",
            "closelog",
        ],
    ),
    (
        "they wait only before the system's first entropy",
        &["getrandom", "getentropy"],
    ),
    (
        "a stream's lock belongs to the OS thread; the probes lines and parked hold it across waits",
        &[
            "flockfile",
            "_IO_flockfile",
            "ftrylockfile",
            "_IO_ftrylockfile",
            "funlockfile",
            "_IO_funlockfile",
            "fcloseall",
            "_IO_flush_all",
        ],
    ),
    (
        "they are paced by the same code as the cases of their kind; the rest is bookkeeping",
        &[
            "open_by_handle_at",
            "chdir",
            "fchdir",
            "mkstemp",
            "mkstemp64",
            "mkstemps",
            "mkstemps64",
            "mkostemp",
            "mkostemp64",
            "mkostemps",
            "mkostemps64",
            "scandirat",
            "scandirat64",
            "ftw",
            "ftw64",
            "fts_open",
            "fts64_open",
            "fts_read",
            "fts64_read",
            "fts_children",
            "fts64_children",
        ],
    ),
];

#[test]
fn every_row_that_can_wait_has_a_case() {
    let cases: BTreeSet<String> = cases().into_iter().collect();
    let without: BTreeSet<&str> = WITHOUT
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    let rows = testprogs::rows();
    let missing: Vec<_> = rows
        .iter()
        // All paced calls of one kind run through the same code.
        .filter(|row| {
            !matches!(
                row.how,
                How::Passed | How::Wakes | How::Copied | How::Paced(_)
            )
        })
        .filter(|row| !cases.contains(&row.name) && !without.contains(row.name.as_str()))
        .map(|row| row.name.as_str())
        .collect();
    assert!(missing.is_empty(), "blocking.c has no case for {missing:?}");
    let kinds = |with: bool| -> BTreeSet<String> {
        let of = rows.iter().filter(|row| !with || cases.contains(&row.name));
        of.filter_map(|row| match &row.how {
            How::Paced(kind) => Some(kind.clone()),
            _ => None,
        })
        .collect()
    };
    assert_eq!(
        kinds(true),
        kinds(false),
        "each kind of paced calls has a case"
    );
}

#[test]
fn each_call_blocks_as_a_plain_one() {
    each(&cases(), |symbol| {
        run(&["--threads", symbol], Flavor::Plain, None)
    });
}

#[test]
fn by_name_they_keep_nobody_on_io_uring() {
    each(&cases(), |symbol| {
        run(&[symbol], Flavor::Plain, Some("uring"))
    });
}

#[test]
fn by_name_they_keep_nobody_on_linux_aio() {
    each(&cases(), |symbol| {
        run(&[symbol], Flavor::Plain, Some("aio"))
    });
}

#[test]
fn by_name_they_keep_nobody_on_threads() {
    each(&cases(), |symbol| {
        run(&[symbol], Flavor::Plain, Some("threads"))
    });
}

/// The names that the compiler's options select.
#[test]
fn as_compiled_they_keep_nobody() {
    let symbols: Vec<String> = cases()
        .into_iter()
        .filter(|name| !name.starts_with("__"))
        .collect();
    for flavor in [Flavor::Lfs64, Flavor::Fortify] {
        each(&symbols, |symbol| {
            run(&["--direct", symbol], flavor, Some("uring"))
        });
    }
}
